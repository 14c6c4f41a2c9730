"""The section of the configuration that describes the service: resources, scaling, limits, storage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from motserve.config.base import Section
from motserve.config.observability import MetricsConfig, TracingConfig
from motserve.config.paths import LocalPath


class AutoscalingConfig(Section):
    """Replicas of one deployment: how many, and when there are more."""

    min_replicas: int = Field(1, ge=0, le=1000, description="Fewest replicas.")
    max_replicas: int = Field(1, ge=1, le=1000, description="Most replicas.")
    target_ongoing_requests: float = Field(
        4.0, gt=0, le=10_000, description="Requests in work or waiting per replica above which replicas are added."
    )
    upscale_delay_s: float = Field(5.0, ge=0, le=3600, description="Seconds of load before replicas are added.")
    downscale_delay_s: float = Field(300.0, ge=0, le=86400, description="Seconds of calm before replicas are removed.")
    metrics_interval_s: float = Field(
        2.0, gt=0, le=600, description="Seconds between two reports of how many requests there are."
    )
    look_back_period_s: float = Field(
        10.0, gt=0, le=3600, description="Seconds over which the number of requests is averaged."
    )

    @model_validator(mode="after")
    def _ordered(self) -> AutoscalingConfig:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}")
        if self.metrics_interval_s >= self.look_back_period_s:
            raise ValueError(
                f"look_back_period_s {self.look_back_period_s} must exceed metrics_interval_s {self.metrics_interval_s}"
            )
        return self


class ReplicaConfig(Section):
    """Resources of one deployment that runs a network."""

    cpus: float = Field(1.0, ge=0, le=1024, description="CPUs that Ray reserves for a replica.")
    gpus: float = Field(0.0, ge=0, le=64, description="GPU share of a replica where the accelerator is a GPU.")
    threads: int = Field(
        0, ge=0, le=1024, description="Threads of a replica's CPU inference; 0 for one for each core of its machine."
    )
    max_batch: int = Field(16, ge=1, le=1024, description="Most pictures in one pass of the network.")
    max_ongoing_requests: int = Field(
        64, ge=2, le=10_000, description="Requests at a replica at a time; a batch can only be made of these."
    )
    autoscaling: AutoscalingConfig = Field(AutoscalingConfig(), description="Number of replicas.")


class IngressConfig(Section):
    """Resources of the HTTP ingress."""

    cpus: float = Field(0.1, ge=0, le=1024, description="CPUs that Ray reserves for a replica.")
    max_ongoing_requests: int = Field(
        100, ge=2, le=10_000, description="Requests at a replica at a time, open streams among them."
    )
    autoscaling: AutoscalingConfig = Field(AutoscalingConfig(), description="Number of replicas.")


class SessionConfig(Section):
    """The actor that follows one video."""

    cpus: float = Field(0.05, ge=0, le=1024, description="CPUs that Ray reserves for a session.")
    request_timeout_s: float = Field(
        120.0, gt=0, le=86400, description="Seconds after which a request to detector or embedder is given up."
    )
    attempts: int = Field(3, ge=1, le=100, description="Times a request is made before the video fails.")
    checkpoint_s: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Seconds between two checkpoints, the work that is done again when a session is lost; 0 for none: "
        "the video then begins anew.",
    )
    restarts: int = Field(
        3,
        ge=0,
        le=100,
        description="Times that a video is taken up again after its session was lost, before it fails. Moves away from "
        "a machine that is drained do not count.",
    )
    lease_s: float = Field(
        15.0,
        ge=1,
        le=600,
        description="Seconds without a sign of life after which a session is taken for lost; it gives one three times "
        "as often. Clocks of the machines must not be apart by more than a part of it.",
    )
    watch_s: float = Field(
        2.0, ge=0.1, le=60, description="Seconds between two looks of an ingress replica for lost sessions."
    )


class IdentitiesConfig(Section):
    """The index of people across finished videos."""

    enabled: bool = Field(
        True,
        description="Whether people of finished videos are remembered and can be searched for. Needs a `reid.policy` "
        "other than `off`.",
    )
    max_identities: int = Field(
        100_000,
        ge=1,
        le=100_000_000,
        description="Most identities remembered, of all videos together; beyond it those of the oldest video go.",
    )
    max_per_video: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Most identities remembered of one video; beyond it the one that was embedded least often goes.",
    )
    embeddings_per_identity: int = Field(
        4, ge=1, le=64, description="Embeddings remembered of each identity, those that differ most."
    )
    thumbnail_quality: int = Field(85, ge=1, le=100, description="JPEG quality of thumbnails; higher is better.")
    max_results: int = Field(100, ge=1, le=10_000, description="Most matches in the answer to a search.")
    max_picture_bytes: int = Field(
        10 << 20, ge=1, le=1 << 40, description="Largest picture searched for in bytes; larger ones get 413."
    )
    max_picture_pixels: int = Field(
        4096 * 4096, ge=1024, le=1 << 30, description="Largest picture searched for in pixels; larger ones get 413."
    )
    embed_timeout_s: float = Field(
        20.0, gt=0, le=3600, description="Seconds that a search waits for the embedder before it answers 503."
    )

    @model_validator(mode="after")
    def _fits(self) -> IdentitiesConfig:
        if self.max_per_video > self.max_identities:
            raise ValueError(f"max_per_video {self.max_per_video} exceeds max_identities {self.max_identities}")
        return self


class ReloadConfig(Section):
    """How a newly promoted model reaches the running service."""

    poll_s: float = Field(
        0.0, ge=0, le=86400, description="Seconds between two looks at the registry; 0 looks only when it is asked to."
    )
    running_videos: Literal["finish", "switch"] = Field(
        "finish",
        description="Whether a video that is being tracked ends with the detector that it began with, or goes on with "
        "the new one from its next chunk of frames. Its embedder stays: embeddings of two networks cannot be compared.",
    )
    kept_models: int = Field(
        2, ge=1, le=100, description="Models that a replica has loaded at a time: the new one, and those of running "
        "videos. One that is needed again is loaded again."
    )  # fmt: skip
    load_timeout_s: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Seconds that a new model may take to download and load before it is given up.",
    )


class ServingConfig(Section):
    """The service as a whole."""

    storage_dir: LocalPath = Field(
        Path("data"),
        description="Folder of uploads, results and the stores of jobs and people; shared by all nodes of a cluster.",
    )
    allowed_roots: tuple[LocalPath, ...] = Field(
        (), description="Folders below which `file://` URLs may be read; none by default."
    )
    max_upload_bytes: int = Field(
        2 << 30, ge=1, le=1 << 50, description="Largest upload in bytes; larger ones get 413."
    )
    max_active_videos: int = Field(
        8, ge=1, le=100_000, description="Videos in work at a time; one more gets 503 with Retry-After."
    )
    retry_after_s: int = Field(
        5, ge=1, le=3600, description="Seconds a client is asked to wait when the service is full."
    )
    max_page_size: int = Field(100, ge=1, le=10_000, description="Most videos in one page of the list.")
    admin_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Token that the routes below `/v1/admin` ask for, as `Authorization: Bearer TOKEN`; null asks for "
        "none. Give it by the environment, `MOTSERVE_SERVING__ADMIN_TOKEN`, so that it is in no file.",
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="`auto` takes the GPU shares below where the cluster has GPUs and CPUs where it has none."
    )
    detector: ReplicaConfig = Field(ReplicaConfig(gpus=0.5), description="Detector replicas.")
    embedder: ReplicaConfig = Field(ReplicaConfig(cpus=0.5, gpus=0.5, max_batch=32), description="Embedder replicas.")
    ingress: IngressConfig = Field(IngressConfig(), description="Ingress replicas.")
    session: SessionConfig = Field(SessionConfig(), description="Session actors.")
    identities: IdentitiesConfig = Field(IdentitiesConfig(), description="Index of people across videos.")
    reload: ReloadConfig = Field(ReloadConfig(), description="New models without a restart.")
    metrics: MetricsConfig = Field(MetricsConfig(), description="What Prometheus is told.")
    tracing: TracingConfig = Field(TracingConfig(), description="What a collector of traces is told.")

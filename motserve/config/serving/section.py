"""The section of the configuration that describes the service: resources, scaling, limits, storage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from motserve.config.base import Section
from motserve.config.paths import LocalPath
from motserve.config.serving.receiving import ProbeConfig, UploadsConfig


class MetricsConfig(Section):
    """Metrics for Prometheus."""

    per_video: bool = Field(
        True,
        description="Whether each running video has its own gauges, with its ID as a label. They end with the video, "
        "but Prometheus stores every label value: set it to false for thousands of videos a day.",
    )
    refresh_s: float = Field(
        5.0,
        ge=0.5,
        le=10.0,
        description="Seconds between two updates of gauges. Ray drops a gauge that was not set for 20 s.",
    )
    cpus: float = Field(0.05, ge=0, le=1024, description="CPUs that Ray reserves for the metrics collector.")


class TracingConfig(Section):
    """Traces of requests, sent by OTLP over HTTP. Needs the extra `tracing`."""

    endpoint: str | None = Field(
        None, description="URL that spans are sent to, such as `http://collector:4318/v1/traces`; null for no traces."
    )
    sample_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of requests that are traced. For a request with a `traceparent` header, its sampled flag "
        "decides.",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Timeout in seconds of sending spans to the collector.")

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{endpoint!r} is not an http:// or https:// URL")
        return endpoint


class AutoscalingConfig(Section):
    """Number of replicas of one deployment, and when it changes."""

    min_replicas: int = Field(1, ge=0, le=1000, description="Smallest number of replicas.")
    max_replicas: int = Field(1, ge=1, le=1000, description="Largest number of replicas.")
    target_ongoing_requests: float = Field(
        4.0,
        gt=0,
        le=10_000,
        description="Running and waiting requests per replica above which replicas are added. Lowered, they are added "
        "sooner.",
    )
    upscale_delay_s: float = Field(5.0, ge=0, le=3600, description="Seconds of high load before replicas are added.")
    downscale_delay_s: float = Field(
        300.0, ge=0, le=86400, description="Seconds of low load before replicas are removed."
    )
    metrics_interval_s: float = Field(
        2.0, gt=0, le=600, description="Seconds between two reports of the number of requests."
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


class DeploymentConfig(Section):
    """What every deployment has."""

    max_ongoing_requests: int = Field(64, ge=2, le=10_000, description="Requests at a replica at a time.")
    autoscaling: AutoscalingConfig = Field(AutoscalingConfig(), description="Number of replicas.")
    health_check_period_s: float = Field(2.0, gt=0, le=3600, description="Seconds between two health checks.")
    health_check_timeout_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Seconds in which a replica must answer a health check. After three checks without an answer it is "
        "killed and replaced. Lowered, a hanging replica is noticed earlier, and a slow one is mistaken for hanging.",
    )


class ReplicaConfig(DeploymentConfig):
    """Resources of one deployment that runs a network."""

    cpus: float = Field(1.0, ge=0, le=1024, description="CPUs that Ray reserves for a replica.")
    gpus: float = Field(0.0, ge=0, le=64, description="GPU share of a replica if the accelerator is a GPU.")
    threads: int = Field(
        0, ge=0, le=1024, description="Threads of a replica's CPU inference; 0 for one per core of its machine."
    )
    max_batch: int = Field(
        16,
        ge=1,
        le=1024,
        description="Largest number of images in one pass of the network. Raised, throughput, latency and memory grow.",
    )
    max_ongoing_requests: int = Field(
        64, ge=2, le=10_000, description="Requests at a replica at a time; batches are made of these."
    )


class IngressConfig(DeploymentConfig):
    """Resources of the HTTP ingress."""

    cpus: float = Field(0.1, ge=0, le=1024, description="CPUs that Ray reserves for a replica.")
    max_ongoing_requests: int = Field(
        100, ge=2, le=10_000, description="Requests at a replica at a time, including open streams."
    )


class SessionConfig(Section):
    """The actor that tracks one video."""

    cpus: float = Field(0.04, ge=0, le=1024, description="CPUs that Ray reserves for a session.")
    warm: int = Field(
        1,
        ge=0,
        le=64,
        description="Session processes that each ingress replica starts ahead, so that the tracking of a posted video "
        "begins at once. Raised, this is so for more videos posted together; each further one waits for the start of "
        "its process, some seconds. Each holds the memory of a session without a video, some 160 MB, and the CPUs that "
        "Ray reserves for a session, which it gives back as soon as anything waits for them. 0 for none.",
    )
    request_timeout_s: float = Field(
        120.0, gt=0, le=86400, description="Timeout in seconds of a request to the detector or embedder."
    )
    attempts: int = Field(3, ge=1, le=100, description="Attempts of a request before the video fails.")
    checkpoint_s: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Seconds between two checkpoints. Raised, more work is repeated after a session was lost; 0 for no "
        "checkpoints: the video then restarts from the beginning.",
    )
    restarts: int = Field(
        3,
        ge=0,
        le=100,
        description="Restarts of a video after its session was lost, before it fails. Moves from a machine that is "
        "drained do not count.",
    )
    lease_s: float = Field(
        10.0,
        ge=1,
        le=600,
        description="Seconds without a heartbeat after which a session counts as hanging or lost and is killed; "
        "heartbeats are three times as frequent. A session whose process has ended is noticed at the next check. "
        "Raised, hanging sessions are noticed later, and the detector that one blocks is replaced first if `lease_s` "
        "and `watch_s` exceed its three health checks; lowered, slow ones are mistaken for hanging. The clocks of the "
        "machines must differ by less than a fraction of it.",
    )
    stall_timeout_s: float = Field(
        60.0,
        gt=0,
        le=86400,
        description="Seconds without progress, such as a decoded or written frame, after which a session is ended and "
        "the next one resumes the video. Waiting for a request to the detector or embedder does not count; "
        "`request_timeout_s` limits it.",
    )
    memory_bytes: int = Field(
        2 << 30,
        ge=256 << 20,
        le=1 << 50,
        description="Largest memory in bytes of a session; a video that needs more fails. A session has some 150 MB, "
        "and frames in the decoder and on their way to the detector; see `pipeline.max_chunk_bytes`.",
    )
    watch_s: float = Field(
        2.0, ge=0.1, le=60, description="Seconds between two checks of an ingress replica for lost sessions."
    )


class IdentitiesConfig(Section):
    """The index of identities across finished videos."""

    enabled: bool = Field(
        True,
        description="Whether identities of finished videos are stored and can be searched. Needs a `reid.policy` other "
        "than `off`.",
    )
    max_identities: int = Field(
        100_000,
        ge=1,
        le=100_000_000,
        description="Largest number of stored identities of all videos together; beyond it those of the oldest video "
        "are deleted.",
    )
    max_per_video: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Largest number of stored identities of one video; beyond it the one that was embedded least often "
        "is left out.",
    )
    embeddings_per_identity: int = Field(
        4, ge=1, le=64, description="Embeddings stored per identity, those that differ most."
    )
    thumbnail_quality: int = Field(
        85, ge=1, le=100, description="JPEG quality of thumbnails; raised, quality and size grow."
    )
    max_results: int = Field(100, ge=1, le=10_000, description="Largest number of matches in the answer to a search.")
    max_picture_bytes: int = Field(
        10 << 20, ge=1, le=1 << 40, description="Largest query image in bytes; larger ones get 413."
    )
    max_picture_pixels: int = Field(
        4096 * 4096, ge=1024, le=1 << 30, description="Largest query image in pixels; larger ones get 413."
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
        0.0, ge=0, le=86400, description="Seconds between two polls of the registry; 0 polls only on request."
    )
    running_videos: Literal["finish", "switch"] = Field(
        "finish",
        description="Detector of a running video: `finish` keeps the one that it began with, `switch` changes to the "
        "new one at its next chunk of frames. Its embedder stays: embeddings of two networks cannot be compared.",
    )
    max_cached_models: int = Field(
        2,
        ge=1,
        le=100,
        description="Largest number of models that a replica has in memory: the new one and those of running videos. "
        "An evicted model is loaded again when it is needed.",
    )
    load_timeout_s: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Timeout in seconds of downloading and loading a new model.",
    )


class ServingConfig(Section):
    """The service as a whole."""

    storage_dir: LocalPath = Field(
        Path("data"),
        description="Folder of uploads, results and the stores of jobs and identities; shared by all nodes of a "
        "cluster.",
    )
    allowed_roots: tuple[LocalPath, ...] = Field(
        (), description="Folders below which `file://` URLs may be read; none by default."
    )
    uploads: UploadsConfig = Field(UploadsConfig(), description="How request bodies are received.")
    probe: ProbeConfig = Field(ProbeConfig(), description="How posted videos are checked.")
    max_upload_bytes: int = Field(
        2 << 30, ge=1, le=1 << 50, description="Largest upload in bytes; larger ones get 413."
    )
    max_active_videos: int = Field(
        8,
        ge=1,
        le=100_000,
        description="Largest number of videos that are tracked at a time; further ones get 503 with Retry-After.",
    )
    retry_after_s: int = Field(
        5, ge=1, le=3600, description="Value of Retry-After in seconds when the service is full."
    )
    max_page_size: int = Field(100, ge=1, le=10_000, description="Largest number of videos in one page of the list.")
    admin_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Token that the routes below `/v1/admin` require as `Authorization: Bearer TOKEN`; null requires "
        "none. Set it in the environment, `MOTSERVE_SERVING__ADMIN_TOKEN`, to keep it out of files.",
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="`auto` uses the GPU shares below if the cluster has GPUs, else CPUs; `cpu` and `gpu` force one.",
    )
    detector: ReplicaConfig = Field(ReplicaConfig(gpus=0.5), description="Detector replicas.")
    embedder: ReplicaConfig = Field(ReplicaConfig(cpus=0.5, gpus=0.5, max_batch=32), description="Embedder replicas.")
    ingress: IngressConfig = Field(IngressConfig(), description="Ingress replicas.")
    session: SessionConfig = Field(SessionConfig(), description="Session actors.")
    identities: IdentitiesConfig = Field(IdentitiesConfig(), description="Index of identities across videos.")
    reload: ReloadConfig = Field(ReloadConfig(), description="Loading of new models without a restart.")
    metrics: MetricsConfig = Field(MetricsConfig(), description="Prometheus metrics of the service.")
    tracing: TracingConfig = Field(TracingConfig(), description="Traces of requests.")

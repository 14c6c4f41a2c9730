"""The sections of the configuration for evaluation, parameter search and logging of runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from motserve.choices import ScoreScale as ScoreScale
from motserve.config.base import Section
from motserve.config.paths import NameOrPath, StoreAddress


class RerankConfig(Section):
    """Re-ranking with k-reciprocal neighbours (Zhong et al., CVPR 2017)."""

    k1: int = Field(20, ge=1, le=1000, description="Nearest neighbours among which reciprocal ones are searched.")
    k2: int = Field(6, ge=1, le=1000, description="Nearest neighbours over which the encoding of a crop is averaged.")
    original_weight: float = Field(
        0.3, ge=0, le=1, description="Weight of the original distance; the rest is the weight of the Jaccard distance."
    )


class CalibrationConfig(Section):
    """How the largest link distance of an embedder is measured: open-set re-identification of simulated arrivals."""

    seed: int = Field(0, ge=0, le=2**31, description="Seed of all random numbers.")
    trials: int = Field(20_000, ge=1, le=10_000_000, description="Number of simulated arrivals.")
    gallery_identities: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Identities in the gallery at each arrival. Raised, false links are more likely.",
    )
    impostor_share: float = Field(
        0.5, gt=0, lt=1, description="Share of arrivals by impostors: people who are not in the gallery."
    )
    every_s: float = Field(0.5, gt=0, le=600, description="In videos: seconds between two embeddings of a person.")
    false_reject_rate: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share of a person's own embeddings that are farther from the person's gallery than the reported "
        "`reid.gallery.contradiction`; only two in a row count as another person.",
    )
    false_link_rates: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.005, 0.01, 0.02, 0.05),
        min_length=1,
        description="Shares of wrong links, for each of which the largest link distance is reported.",
    )


class EvaluationConfig(Section):
    """How detectors and embedders are evaluated."""

    detection_confidence: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Lowest confidence of the detections that average precision is computed from. Raised, the "
        "precision-recall curve ends early and the score drops.",
    )
    detection_scores: ScoreScale = Field(
        "auto",
        description="How scores in detection files become confidences: `as-is`, by their `rank` in the file, or as "
        "log-odds by the `logistic` function. `auto` takes scores in [0, 1] as they are, log-odds where all "
        "scores are near zero, else the rank.",
    )
    largest_log_odds: float = Field(
        10.0,
        gt=0,
        le=1000,
        description="With `detection_scores: auto`: largest absolute value of scores that count as log-odds.",
    )
    false_positives_per_image: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 1.0), min_length=1, description="False positives per image at which recall is reported."
    )
    query_batch: int = Field(
        256, ge=1, le=65536, description="Queries compared with the gallery at a time. Lowered, less memory is used."
    )
    rerank: RerankConfig = Field(RerankConfig(), description="Re-ranking, if requested.")
    calibration: CalibrationConfig = Field(
        CalibrationConfig(), description="Measurement of the largest link distance of an embedder."
    )
    detect_batch: int = Field(8, ge=1, le=1024, description="Images in one pass of the measured detector.")
    timed_images: int = Field(
        50, ge=1, le=100_000, description="Images, or crops, over which speed is measured after a warm-up."
    )


class MlflowConfig(Section):
    """Where runs are logged with `--mlflow`."""

    tracking_uri: StoreAddress = Field(
        "sqlite:///runs/mlflow.db", min_length=1, description="MLflow tracking store: a database or a server."
    )
    artifact_dir: NameOrPath | None = Field(
        "runs/mlflow",
        description="Folder for artifacts of a new experiment; null for the store's default. A server, whose address "
        "begins with http, uses its own artifact store.",
    )
    experiment: str = Field("motserve", min_length=1, description="Name of the experiment.")


class ParameterSpace(Section):
    """Range of a parameter in a search."""

    low: float = Field(ge=-1e9, le=1e9, description="Smallest value.")
    high: float = Field(ge=-1e9, le=1e9, description="Largest value.")
    step: float | None = Field(None, gt=0, description="Distance between two values; null for a continuous range.")
    log: bool = Field(False, description="Sample on a logarithmic scale.")

    @model_validator(mode="after")
    def _consistent(self) -> ParameterSpace:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("a logarithmic range must start above 0 and have no step")
        return self


class TuningConfig(Section):
    """How parameters of the tracker are searched."""

    objective: Literal["HOTA", "MOTA", "IDF1"] = Field(
        "HOTA", description="Score that is maximised, combined over the training split."
    )
    trials: int = Field(60, ge=1, le=1_000_000, description="Parameter sets tried, including the starting point.")
    seed: int = Field(0, ge=0, le=2**31, description="Seed of the sampler.")
    workers: int = Field(
        1,
        ge=1,
        le=10_000,
        description="Trials that run at the same time; above 1 they run on Ray Tune, in an order that is not fixed.",
    )
    space: dict[str, ParameterSpace] = Field(
        {
            "tracker.high_confidence": ParameterSpace(low=0.3, high=0.7),
            "tracker.new_track_confidence": ParameterSpace(low=0.5, high=0.77),
            "tracker.match_distance": ParameterSpace(low=0.6, high=0.95),
            "tracker.second_match_distance": ParameterSpace(low=0.3, high=0.8),
            "tracker.lost_buffer_s": ParameterSpace(low=0.5, high=5.0, log=True),
        },
        min_length=1,
        description="Range of each searched parameter by its key, such as `tracker.match_distance`. `step` is the "
        "distance between two values, `log` samples on a logarithmic scale.",
    )

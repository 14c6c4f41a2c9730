"""The sections of the configuration that describe how numbers are measured, searched for and kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from motserve.config.base import Section
from motserve.config.paths import NameOrPath, StoreAddress

ScoreScale = Literal["auto", "as-is", "rank", "logistic"]
"""How scores of a file of detections become confidences."""


class RerankConfig(Section):
    """Re-ranking with k-reciprocal neighbours (Zhong et al., CVPR 2017)."""

    k1: int = Field(20, ge=1, le=1000, description="Neighbours among which reciprocal ones are looked for.")
    k2: int = Field(6, ge=1, le=1000, description="Nearest neighbours over which the encoding of a crop is averaged.")
    original_weight: float = Field(
        0.3, ge=0, le=1, description="Weight of the original distance; the rest is that of the Jaccard distance."
    )


class CalibrationConfig(Section):
    """How the distance at which an embedder may link is found."""

    seed: int = Field(0, ge=0, le=2**31, description="Seed of all randomness.")
    trials: int = Field(20_000, ge=1, le=10_000_000, description="Returns that are played through.")
    remembered: int = Field(
        10, ge=1, le=100_000, description="People who are remembered when somebody comes; more make more false links."
    )
    strangers: float = Field(0.5, gt=0, lt=1, description="Share of those who come that had not been there before.")
    every_s: float = Field(0.5, gt=0, le=600, description="In videos: seconds between two looks at a person.")
    strange: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share of looks at a person that may be taken for somebody else's, two in a row before it counts.",
    )
    rates: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.005, 0.01, 0.02, 0.05), min_length=1, description="Shares of false links for which a distance is given."
    )


class EvaluationConfig(Section):
    """How detectors and embedders are measured."""

    detection_confidence: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Lowest confidence of the detections that average precision is measured on; a curve that stops "
        "early loses its tail.",
    )
    detection_scores: ScoreScale = Field(
        "auto",
        description="How scores of files of detections become confidences: `as-is`, by their `rank` in the file, or as "
        "log-odds by the `logistic` function. `auto` takes scores in [0, 1] as they are, log-odds where all lie around "
        "zero, else the rank.",
    )
    largest_log_odds: float = Field(
        10.0,
        gt=0,
        le=1000,
        description="With `detection_scores: auto`: scores that lie at most so far from zero are taken for log-odds.",
    )
    false_positives_per_image: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 1.0), min_length=1, description="False positives per image at which recall is reported."
    )
    query_batch: int = Field(
        256, ge=1, le=65536, description="Queries compared with the gallery at a time; bounds memory."
    )
    rerank: RerankConfig = Field(RerankConfig(), description="Re-ranking, where it is asked for.")
    calibration: CalibrationConfig = Field(CalibrationConfig(), description="The distance at which people link.")
    detect_batch: int = Field(8, ge=1, le=1024, description="Images in one pass of a detector that is measured.")
    timed_images: int = Field(
        50, ge=1, le=100_000, description="Images, or crops, over which speed is measured, after warming up."
    )


class MlflowConfig(Section):
    """Where runs are logged when `--mlflow` asks for it."""

    tracking_uri: StoreAddress = Field(
        "sqlite:///runs/mlflow.db", min_length=1, description="MLflow tracking store: a database or a server."
    )
    artifact_dir: NameOrPath | None = Field(
        "runs/mlflow",
        description="Folder for artifacts of a new experiment; null for the store's own default. A server, whose "
        "address begins with http, keeps them where it was told to.",
    )
    experiment: str = Field("motserve", min_length=1, description="Name of the experiment.")


class ParameterSpace(Section):
    """Values that a parameter may take in a search."""

    low: float = Field(ge=-1e9, le=1e9, description="Least value.")
    high: float = Field(ge=-1e9, le=1e9, description="Largest value.")
    step: float | None = Field(None, gt=0, description="Distance between two values; null for any between the ends.")
    log: bool = Field(False, description="Draw from the logarithm of the range.")

    @model_validator(mode="after")
    def _consistent(self) -> ParameterSpace:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("a logarithmic range takes no step and starts above 0")
        return self


class TuningConfig(Section):
    """How the tracker's parameters are searched."""

    objective: Literal["HOTA", "MOTA", "IDF1"] = Field(
        "HOTA", description="What is maximised: the combined score over the training split."
    )
    trials: int = Field(60, ge=1, le=1_000_000, description="Parameter sets tried, the starting point among them.")
    seed: int = Field(0, ge=0, le=2**31, description="Seed of the sampler.")
    workers: int = Field(
        1, ge=1, le=10_000, description="Trials at a time; above 1 they run on Ray Tune, and their order is not fixed."
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
        description="Range of each parameter that is searched, by its key, such as `tracker.match_distance`.",
    )

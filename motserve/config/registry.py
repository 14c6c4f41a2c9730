"""The section of the configuration that says which models may go into production."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from motserve.config.base import Section

Alias = Literal["production", "staging"]
"""What a version of a model may be to the services that follow the registry."""

MetricName = Annotated[str, Field(min_length=1)]


class GateConfig(Section):
    """What a version must reach before an alias is moved to it."""

    metrics: tuple[MetricName, ...] = Field(
        min_length=1, description="Scores that must not be below those of the version in production on the same data."
    )
    tolerance: float = Field(
        0.0, ge=0, le=100, description="How far below it a score may be, in points of a hundred: repeated trainings "
        "differ."
    )  # fmt: skip
    least: dict[MetricName, float] = Field(
        {}, description="Least value of a score in points of a hundred, by its name, whatever is in production."
    )


class DetectorGateConfig(GateConfig):
    """What a detector must reach."""

    metrics: tuple[MetricName, ...] = Field(
        ("mAP50",),
        min_length=1,
        description="Scores that must not be below those of the version in production on the same data: mAP50, "
        "mAP50-95, or MOTA, IDF1, HOTA of the tracks that come of it.",
    )


class ReIDGateConfig(GateConfig):
    """What an embedder must reach."""

    metrics: tuple[MetricName, ...] = Field(
        ("Rank-1", "mAP"),
        min_length=1,
        description="Scores that must not be below those of the version in production on the same data: Rank-1, mAP, "
        "mINP.",
    )


class RegistryConfig(Section):
    """The registry of models: versions, and the gate that they pass on the way to a service."""

    detector: DetectorGateConfig = Field(DetectorGateConfig(), description="Gate of detectors.")
    reid: ReIDGateConfig = Field(ReIDGateConfig(), description="Gate of embedders.")
    history: int = Field(
        50, ge=2, le=500, description="Moves of aliases that are remembered of each model, fewer where they would not "
        "fit into a tag of MLflow."
    )  # fmt: skip

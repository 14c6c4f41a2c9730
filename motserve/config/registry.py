"""The section of the configuration that describes which models may go into production."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from motserve.choices import Alias as Alias
from motserve.config.base import Section

MetricName = Annotated[str, Field(min_length=1)]


class GateConfig(Section):
    """Scores that a version must reach before an alias is moved to it."""

    metrics: tuple[MetricName, ...] = Field(
        min_length=1, description="Scores that must not be lower than those of the production version on the same data."
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Accepted drop of a score in percentage points, because repeated trainings differ.",
    )
    min_scores: dict[MetricName, float] = Field(
        {},
        description="Lowest accepted value of a score in percent, by its name, independent of the production version.",
    )


class DetectorGateConfig(GateConfig):
    """Scores that a detector must reach."""

    metrics: tuple[MetricName, ...] = Field(
        ("mAP50",),
        min_length=1,
        description="Scores that must not be lower than those of the production version on the same data: mAP50, "
        "mAP50-95, or MOTA, IDF1, HOTA of the resulting tracks.",
    )


class ReIDGateConfig(GateConfig):
    """Scores that an embedder must reach."""

    metrics: tuple[MetricName, ...] = Field(
        ("Rank-1", "mAP"),
        min_length=1,
        description="Scores that must not be lower than those of the production version on the same data: Rank-1, mAP, "
        "mINP.",
    )


class RegistryConfig(Section):
    """The model registry, and the gates that versions must pass to be promoted."""

    detector: DetectorGateConfig = Field(DetectorGateConfig(), description="Gate of detectors.")
    reid: ReIDGateConfig = Field(ReIDGateConfig(), description="Gate of embedders.")
    history: int = Field(
        50, ge=2, le=500, description="Alias moves stored per model, fewer if they exceed the size of an MLflow tag."
    )

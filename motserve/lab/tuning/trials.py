"""Trials of a parameter search: values in ranges, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from motserve.config import ParameterSpace
from motserve.models.extras import required_extra

Values: TypeAlias = Mapping[str, float]
"""A value for each searched key."""

Objective: TypeAlias = Callable[[Values], float | None]
"""Scores a set of parameters; None where its values contradict each other."""

TrialProgress: TypeAlias = Callable[[int, float | None], None]
"""Callback of progress: number of finished trials, and the best score so far."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters.

    Attributes:
        values: The parameters.
        score: The objective on the training split; None where the values contradict each other.
    """

    values: Values
    score: float | None


def distributions(space: Mapping[str, ParameterSpace]) -> dict[str, Any]:
    """Return Optuna's distribution for each key."""
    with required_extra("lab", "the search for parameters"):
        from optuna.distributions import FloatDistribution

    return {key: FloatDistribution(part.low, part.high, log=part.log, step=part.step) for key, part in space.items()}


def inside(values: Values, space: Mapping[str, ParameterSpace]) -> bool:
    """Return whether values are in their ranges, so that a search can start with them."""
    return all(part.low <= values[key] <= part.high for key, part in space.items())

"""Decides whether a version of a model may replace another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from motserve.config.registry import GateConfig
from motserve.models.registry.card import Scores


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a gate.

    Attributes:
        passed: Whether the version passes.
        reasons: The comparisons and their results, a sentence each.
    """

    passed: bool
    reasons: tuple[str, ...]


def judge(candidate: Mapping[str, Scores], present: Mapping[str, Scores] | None, gate: GateConfig) -> Verdict:
    """Compare a version with the one that it would replace.

    Args:
        candidate: Its scores, by the key of the data.
        present: Scores of the version that it would replace; None if there is none.
        gate: Required scores.

    Returns:
        Passed if no score is below its least value, and none is worse than that of the present version by more than
        the tolerance on any data that both were evaluated on. Such data must exist for each score; it need not be the
        same for all, because some scores are of images and some of tracks.

    >>> old = {"a": Scores("val", "a", {"mAP50": 81.0})}
    >>> judge({"a": Scores("val", "a", {"mAP50": 80.0})}, old, GateConfig(metrics=("mAP50",)))
    Verdict(passed=False, reasons=('mAP50 on val: 80.00, below 81.00 of the present version',))
    """
    required = (*gate.metrics, *(name for name in gate.min_scores if name not in gate.metrics))
    unknown = [name for name in required if not any(name in one.metrics for one in candidate.values())]
    if unknown:
        return Verdict(False, (f"it was not evaluated on any data with {', '.join(unknown)}",))
    reasons, passed = [], True
    for name, least in gate.min_scores.items():
        for one in candidate.values():
            if name in one.metrics and not one.metrics[name] >= least:  # NaN fails too
                reasons.append(f"{name} on {one.data}: {one.metrics[name]:.2f}, at least {least:.2f} is required")
                passed = False
    if present is None:
        return Verdict(passed, (*reasons, "there is no present version to compare it with"))
    for name in gate.metrics:
        common = [
            (one, present[key])
            for key, one in candidate.items()
            if name in one.metrics and key in present and name in present[key].metrics
        ]
        if not common:
            reasons.append(f"it was not evaluated on the same data as the present version with {name}")
            passed = False
        for ours, theirs in common:
            worse = not ours.metrics[name] >= theirs.metrics[name] - gate.tolerance
            passed = passed and not worse
            relation = "not below" if ours.metrics[name] >= theirs.metrics[name] else "below"
            tolerated = f", within the tolerance of {gate.tolerance:g}" if relation == "below" and not worse else ""
            reasons.append(
                f"{name} on {ours.data}: {ours.metrics[name]:.2f}, {relation} {theirs.metrics[name]:.2f} of the "
                f"present version{tolerated}"
            )
    return Verdict(passed, tuple(reasons))

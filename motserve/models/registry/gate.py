"""Decides whether a version of a model may take the place of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from motserve.config.registry import GateConfig
from motserve.models.registry.card import Scores


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says.

    Attributes:
        passed: Whether the version may pass.
        reasons: What was compared and how it came out, a sentence each.
    """

    passed: bool
    reasons: tuple[str, ...]


def judge(candidate: Mapping[str, Scores], present: Mapping[str, Scores] | None, gate: GateConfig) -> Verdict:
    """Compare a version with the one that it would replace.

    Args:
        candidate: Its scores, by the key of the data.
        present: Those of the version that it would replace; None where there is none.
        gate: What it must reach.

    Returns:
        Passed where no score is below its least, and none is worse than the present version's by more than the
        tolerance on any data that both were measured on. Without such data for each of the scores nothing passes; it
        need not be the same data for all, because some are of pictures and some of tracks.

    >>> old = {"a": Scores("val", "a", {"mAP50": 81.0})}
    >>> judge({"a": Scores("val", "a", {"mAP50": 80.0})}, old, GateConfig(metrics=("mAP50",)))
    Verdict(passed=False, reasons=('mAP50 on val: 80.00, below 81.00 of the present version',))
    """
    wanted = (*gate.metrics, *(name for name in gate.least if name not in gate.metrics))
    unknown = [name for name in wanted if not any(name in one.metrics for one in candidate.values())]
    if unknown:
        return Verdict(False, (f"it was measured on no data with {', '.join(unknown)}",))
    reasons, passed = [], True
    for name, least in gate.least.items():
        for one in candidate.values():
            if name in one.metrics and not one.metrics[name] >= least:  # NaN is below everything
                reasons.append(f"{name} on {one.data}: {one.metrics[name]:.2f}, at least {least:.2f} is asked for")
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
            reasons.append(f"it was not measured on the same data as the present version with {name}")
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

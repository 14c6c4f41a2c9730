"""Scores of several sequences and of all together, as a document that is printed, written and logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from motserve.lab.evaluation import Rules, Scored, combine
from motserve.lab.evaluation.mot import score_prepared
from motserve.lab.evaluation.preparation import prepare
from motserve.lab.evaluation.second_opinion import COMPARED, second_opinion
from motserve.results import MotTable

MOT_LIBRARIES = ("trackeval", "motmetrics")


@dataclass(frozen=True, slots=True)
class Task:
    """One sequence to be scored.

    Attributes:
        truth: Ground truth.
        tracks: Tracks.
        rules: Rules of the benchmark.
        frames: Length of the sequence; None if it ends with the last row.
    """

    truth: MotTable
    tracks: MotTable
    rules: Rules
    frames: int | None


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """Scores of sequences, and of all together.

    Attributes:
        sequences: The scores by sequence name.
        combined: The scores of all together.
        opinions: Scores of motmetrics by sequence name; empty if it was not used.
    """

    sequences: Mapping[str, Scored]
    combined: Scored
    opinions: Mapping[str, Mapping[str, float | int]] = field(default_factory=dict)

    def document(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON document: ratios as fractions, counts as whole numbers, and the provenance."""
        document: dict[str, Any] = {
            "sequences": {name: scored.scores.as_dict() for name, scored in self.sequences.items()},
            "combined": self.combined.scores.as_dict(),
            "curves": {name: scored.curves for name, scored in self.sequences.items()}
            | {"combined": self.combined.curves},
        }
        if self.opinions:
            document["second_opinion"] = {
                name: {"motmetrics": dict(opinion), "difference": self._difference(name)}
                for name, opinion in self.opinions.items()
            }
        return {**document, "provenance": dict(provenance)}

    def _difference(self, name: str) -> dict[str, float]:
        ours = self.sequences[name].scores.as_dict()
        return {score: self.opinions[name][score] - ours[score] for score in COMPARED}


def score_set(tasks: Mapping[str, Task], with_motmetrics: bool = False) -> ScoredSet:
    """Score sequences one by one and together.

    Args:
        tasks: The sequences by name, at least one.
        with_motmetrics: Score with motmetrics as well.

    Raises:
        InvalidData: A table is not valid; the message names file and line.
    """
    scored: dict[str, Scored] = {}
    opinions: dict[str, dict[str, float | int]] = {}
    for name, task in tasks.items():
        # one at a time: the IoU matrices of a long crowded sequence take a gigabyte
        sequence = prepare(task.truth, task.tracks, task.rules, task.frames)
        scored[name] = score_prepared(sequence)
        if with_motmetrics:
            opinions[name] = second_opinion(sequence)
    return ScoredSet(scored, combine(scored), opinions)

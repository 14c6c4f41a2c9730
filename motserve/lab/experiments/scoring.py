"""Scores of several sequences together, as the document that is written, printed and logged."""

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
        rules: How the ground truth is read.
        frames: Length of the sequence; None for up to the last row.
    """

    truth: MotTable
    tracks: MotTable
    rules: Rules
    frames: int | None


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """Scores of sequences, and of all together.

    Attributes:
        sequences: The scores by the name of the sequence.
        combined: The scores of all together.
        opinions: What motmetrics says, by the name of the sequence; empty where it was not asked.
    """

    sequences: Mapping[str, Scored]
    combined: Scored
    opinions: Mapping[str, Mapping[str, float | int]] = field(default_factory=dict)

    def document(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is written to a file: ratios as fractions, counts as whole numbers, and the stamp."""
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


def score_set(tasks: Mapping[str, Task], ask_again: bool = False) -> ScoredSet:
    """Score sequences one by one and together.

    Args:
        tasks: The sequences by name, at least one.
        ask_again: Ask motmetrics as well.

    Raises:
        InvalidData: A table is not valid; the message names file and line.
    """
    scored: dict[str, Scored] = {}
    opinions: dict[str, dict[str, float | int]] = {}
    for name, task in tasks.items():
        # one at a time: the overlaps of a long crowded sequence take a gigabyte
        sequence = prepare(task.truth, task.tracks, task.rules, task.frames)
        scored[name] = score_prepared(sequence)
        if ask_again:
            opinions[name] = second_opinion(sequence)
    return ScoredSet(scored, combine(scored), opinions)

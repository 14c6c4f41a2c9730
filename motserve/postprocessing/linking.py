"""Identities whose sightings end and begin again are joined, over a whole file at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.config import LinkingConfig
from motserve.postprocessing.rows import Rows
from motserve.postprocessing.tracklet import Tracklet
from motserve.tracking.association import assign
from motserve.tracking.time import TOLERANCE_S
from motserve.types import NO_DETECTION, IntArray, TrackedFrame

Score: TypeAlias = Callable[[Sequence[tuple[Tracklet, Tracklet]]], NDArray[np.float64]]
"""Says how likely an ended piece and a later one are the same person, for each pair."""


@dataclass(frozen=True)
class PossibleJoints:
    """Pairs of identities that are near enough in time and space.

    Attributes:
        identities: `(n,)` int64, every identity that was seen, rising.
        before: `(k,)` int64, place among the identities of the one that ended.
        after: `(k,)` int64, place of the one that began later.
    """

    identities: IntArray
    before: IntArray
    after: IntArray
    _starts: IntArray
    _ends: IntArray
    _seen: Rows
    _times: NDArray[np.float64]

    @property
    def began(self) -> IntArray:
        """`(n,)` int64, frame in which each identity was seen first."""
        return self._seen.frames[self._starts]

    def pieces(self) -> list[tuple[Tracklet, Tracklet]]:
        """Return the ways of each pair."""
        ways = {}
        for place in np.union1d(self.before, self.after).tolist():
            way = slice(self._starts[place], self._ends[place] + 1)
            ways[place] = Tracklet(self._times[self._seen.frames[way]], self._seen.boxes[way])
        return [(ways[i], ways[j]) for i, j in zip(self.before.tolist(), self.after.tolist(), strict=True)]


def find_joints(frames: Sequence[TrackedFrame], config: LinkingConfig) -> PossibleJoints:
    """Find the pairs of identities of which one begins soon after the other has ended, not far away.

    Args:
        frames: Every frame of a video, in order.
        config: How far apart they may be, in time and space.
    """
    rows, times = Rows.of(frames), np.array([frame.timestamp for frame in frames])
    seen = rows.take(np.flatnonzero(rows.detections != NO_DETECTION))
    identities, starts = np.unique(seen.identities, return_index=True)
    ends = np.append(starts[1:], len(seen.identities))[: len(starts)] - 1
    began, ended = times[seen.frames[starts]], times[seen.frames[ends]]
    order = np.argsort(began, kind="stable")
    low = np.searchsorted(began[order], ended, side="right")
    high = np.searchsorted(began[order], ended + (config.max_gap_s + TOLERANCE_S), side="right")
    count = high - low
    before = np.repeat(np.arange(len(starts)), count)
    after = order[np.arange(count.sum()) + np.repeat(low - count.cumsum() + count, count)]
    one, other = seen.boxes[ends[before]].astype(np.float64), seen.boxes[starts[after]].astype(np.float64)
    height, other_height = one[:, 3] - one[:, 1], other[:, 3] - other[:, 1]
    apart = np.hypot(*((other[:, :2] + other[:, 2:]) - (one[:, :2] + one[:, 2:])).T / 2)
    near = apart <= config.max_distance * np.maximum(height, other_height)
    near &= seen.classes[ends[before]] == seen.classes[starts[after]]
    return PossibleJoints(identities, before[near], after[near], starts, ends, seen, times)


def link_identities(frames: Sequence[TrackedFrame], config: LinkingConfig, score: Score) -> list[TrackedFrame]:
    """Join identities of which one begins after another has ended.

    Each is joined with at most one before and one after it, so that the chances of all joints together are best;
    what is joined bears the number of the first. Where an identity was seen, what was predicted of it goes.

    Args:
        frames: Every frame of a video, in order.
        config: How far apart two pieces may be, in time and space, and how sure the score must be.
        score: Judges pairs.

    Returns:
        The frames with other identities.
    """
    joints = find_joints(frames, config)
    if not len(joints.before):
        return list(frames)
    before, after = assign(joints.before, joints.after, 1 - score(joints.pieces()), 1 - config.least_score)
    first = np.arange(len(joints.identities))
    for joint in np.argsort(joints.began[after], kind="stable").tolist():  # a chain is walked from its head
        first[after[joint]] = first[before[joint]]
    return _renumbered(Rows.of(frames), joints.identities, joints.identities[first]).split(frames)


def _renumbered(rows: Rows, identities: IntArray, names: IntArray) -> Rows:
    """Return rows with new numbers for identities, without predictions where the identity was seen."""
    place = np.searchsorted(identities, rows.identities)
    known = np.isin(rows.identities, identities)  # others were predicted only
    named = rows.identities.copy()
    named[known] = names[place[known]]
    span, predicted = int(rows.frames.max(initial=0)) + 1, rows.detections == NO_DETECTION
    # one row of each identity in a frame: seen before predicted, and the prediction of the piece that began last
    order = np.lexsort((-rows.ids, predicted, named * span + rows.frames))
    where = (named * span + rows.frames)[order]
    kept = np.sort(order[np.append(True, where[1:] != where[:-1])[: len(order)]])
    return replace(rows, identities=named).take(kept)

"""Links identities that end with others that begin later, over a whole file at once."""

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
"""Returns the probability that an earlier and a later tracklet are the same person, for each pair."""


@dataclass(frozen=True)
class CandidateLinks:
    """Pairs of identities that are near enough in time and space to be linked.

    Attributes:
        identities: `(n,)` int64, every detected identity, rising.
        before: `(k,)` int64, index into `identities` of the one that ended.
        after: `(k,)` int64, index of the one that began later.
    """

    identities: IntArray
    before: IntArray
    after: IntArray
    _starts: IntArray
    _ends: IntArray
    _detected: Rows
    _times: NDArray[np.float64]

    @property
    def began(self) -> IntArray:
        """`(n,)` int64, frame in which each identity was first detected."""
        return self._detected.frames[self._starts]

    def tracklets(self) -> list[tuple[Tracklet, Tracklet]]:
        """Return the two tracklets of each pair."""
        tracklets = {}
        for index in np.union1d(self.before, self.after).tolist():
            rows = slice(self._starts[index], self._ends[index] + 1)
            tracklets[index] = Tracklet(self._times[self._detected.frames[rows]], self._detected.boxes[rows])
        return [(tracklets[i], tracklets[j]) for i, j in zip(self.before.tolist(), self.after.tolist(), strict=True)]


def find_candidate_links(frames: Sequence[TrackedFrame], config: LinkingConfig) -> CandidateLinks:
    """Find the pairs of identities of which one begins soon after and near where the other ended.

    Args:
        frames: Every frame of a video, in order.
        config: Largest gaps in time and space.
    """
    rows, times = Rows.of(frames), np.array([frame.timestamp for frame in frames])
    detected = rows.select(np.flatnonzero(rows.detections != NO_DETECTION))
    identities, starts = np.unique(detected.identities, return_index=True)
    ends = np.append(starts[1:], len(detected.identities))[: len(starts)] - 1
    began, ended = times[detected.frames[starts]], times[detected.frames[ends]]
    order = np.argsort(began, kind="stable")
    low = np.searchsorted(began[order], ended, side="right")
    high = np.searchsorted(began[order], ended + (config.max_gap_s + TOLERANCE_S), side="right")
    count = high - low
    before = np.repeat(np.arange(len(starts)), count)
    after = order[np.arange(count.sum()) + np.repeat(low - count.cumsum() + count, count)]
    last_box, first_box = (
        detected.boxes[ends[before]].astype(np.float64),
        detected.boxes[starts[after]].astype(np.float64),
    )
    height, other_height = last_box[:, 3] - last_box[:, 1], first_box[:, 3] - first_box[:, 1]
    distance = np.hypot(*((first_box[:, :2] + first_box[:, 2:]) - (last_box[:, :2] + last_box[:, 2:])).T / 2)
    within_gate = distance <= config.max_distance * np.maximum(height, other_height)
    within_gate &= detected.classes[ends[before]] == detected.classes[starts[after]]
    return CandidateLinks(identities, before[within_gate], after[within_gate], starts, ends, detected, times)


def link_identities(frames: Sequence[TrackedFrame], config: LinkingConfig, score: Score) -> list[TrackedFrame]:
    """Link identities of which one begins after another has ended.

    Each is linked with at most one before and one after it, at the best total score. Linked identities get the number
    of the first. Predicted rows of an identity are removed where it has a detection.

    Args:
        frames: Every frame of a video, in order.
        config: Largest gaps in time and space, and lowest score of a link.
        score: Scores pairs.

    Returns:
        The frames with the new identities.
    """
    candidates = find_candidate_links(frames, config)
    if not len(candidates.before):
        return list(frames)
    before, after = assign(candidates.before, candidates.after, 1 - score(candidates.tracklets()), 1 - config.min_score)
    first = np.arange(len(candidates.identities))
    for link in np.argsort(
        candidates.began[after], kind="stable"
    ).tolist():  # earlier links first, so that chains get the first number
        first[after[link]] = first[before[link]]
    return _with_new_identities(Rows.of(frames), candidates.identities, candidates.identities[first]).split(frames)


def _with_new_identities(rows: Rows, identities: IntArray, new_identities: IntArray) -> Rows:
    """Return rows with new identities, without predicted rows where the identity has a detection."""
    index = np.searchsorted(identities, rows.identities)
    known = np.isin(rows.identities, identities)  # the others have predicted rows only
    renumbered = rows.identities.copy()
    renumbered[known] = new_identities[index[known]]
    span, predicted = int(rows.frames.max(initial=0)) + 1, rows.detections == NO_DETECTION
    # one row of each identity in a frame: detected before predicted, else the prediction of the latest tracklet
    order = np.lexsort((-rows.ids, predicted, renumbered * span + rows.frames))
    where = (renumbered * span + rows.frames)[order]
    keep_rows = np.sort(order[np.append(True, where[1:] != where[:-1])[: len(order)]])
    return replace(rows, identities=renumbered).select(keep_rows)

"""Merges identities of a whole file that have similar embeddings and are never present at the same time.

While a video is processed, each return is decided once, with the embeddings so far. At its end there are more
embeddings, and every pair of identities can be compared. The nearest pairs are merged first, and merged groups are
compared again: agglomerative clustering with time and motion as constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from motserve.config import RegroupingConfig, ReIDConfig
from motserve.postprocessing.rows import Rows
from motserve.reid.crops import at_border
from motserve.reid.gallery import Gallery
from motserve.reid.identity_table import within_gate
from motserve.types import NO_DETECTION, EmbeddedCrops, FloatArray, IntArray, TrackedFrame


class EmbeddingHistory:
    """Collects embeddings of identities while a video is tracked; bounded for each identity.

    Args:
        size: Most embeddings stored of each identity.
        picture: Width and height of the pictures in pixels; None to treat no box as being at the border.
    """

    def __init__(self, size: int, picture: tuple[int, int] | None = None) -> None:
        self.picture = picture
        self._gallery = Gallery(size)
        self._rows: dict[int, int] = {}

    def add(self, embedded: EmbeddedCrops) -> None:
        """Add the embedded people of a frame."""
        for identity in embedded.identities.tolist():
            if identity not in self._rows:
                self._rows[identity] = len(self._rows)
                self._gallery.append_rows(1)
        if len(embedded.identities):
            rows = np.array([self._rows[identity] for identity in embedded.identities.tolist()])
            self._gallery.add(rows, embedded.embeddings)

    def embeddings(self) -> dict[int, FloatArray]:
        """Return `(k, d)` float32 unit vectors of each identity."""
        return {identity: self._gallery.embeddings_of(row) for identity, row in self._rows.items()}


@dataclass(frozen=True, slots=True)
class _Group:
    """Identities that are one person: their detections in the order of time, and their embeddings."""

    identities: tuple[int, ...]
    frames: IntArray
    times: NDArray[np.float64]
    boxes: FloatArray
    embeddings: FloatArray

    def merged(self, other: _Group) -> _Group:
        order = np.argsort(np.concatenate([self.frames, other.frames]), kind="stable")
        return _Group(
            self.identities + other.identities,
            np.concatenate([self.frames, other.frames])[order],
            np.concatenate([self.times, other.times])[order],
            np.concatenate([self.boxes, other.boxes])[order],
            np.concatenate([self.embeddings, other.embeddings]),
        )


def regroup(
    frames: Sequence[TrackedFrame],
    embeddings: Mapping[int, FloatArray],
    config: RegroupingConfig,
    reid: ReIDConfig,
    picture: tuple[int, int] | None = None,
) -> list[TrackedFrame]:
    """Merge identities with similar embeddings that are never present at the same time and are within the motion gate.

    Args:
        frames: Every frame of a video, in order.
        embeddings: `(k, d)` float32 unit vectors of identities; identities without any are not merged.
        config: Longest absence.
        reid: `max_distance` and `gate` are used.
        picture: Width and height of the pictures in pixels; None to treat no box as being at the border.

    Returns:
        The frames with the new identities; merged ones have the lowest number.
    """
    groups = _groups(frames, embeddings)
    cost = _costs([group.embeddings for group in groups])
    while pairs := _mutual_nearest(cost, reid.max_distance):
        merged_rows = []
        for first, second in pairs:
            cost[first, second] = cost[second, first] = np.inf  # each pair is tried once
            if not _can_be_same_person(groups[first], groups[second], config, reid, picture):
                continue
            groups[first] = groups[first].merged(groups[second])
            merged_rows.append(second)
            # a group that cannot be merged with one of the two cannot be merged with both
            forbidden = np.isinf(cost[first]) | np.isinf(cost[second])
            cost[first] = np.where(
                forbidden, np.inf, _cost_to_all(groups[first].embeddings, [group.embeddings for group in groups])
            )
            cost[:, first] = cost[first]
        remaining = np.setdiff1d(np.arange(len(groups)), merged_rows)
        groups, cost = [groups[row] for row in remaining.tolist()], cost[np.ix_(remaining, remaining)]
    new_identities = {identity: min(group.identities) for group in groups for identity in group.identities}
    return _with_new_identities(frames, new_identities)


def _groups(frames: Sequence[TrackedFrame], embeddings: Mapping[int, FloatArray]) -> list[_Group]:
    rows, times = Rows.of(frames), np.array([frame.timestamp for frame in frames])
    detected = rows.select(np.flatnonzero(rows.detections != NO_DETECTION))
    identities, starts = np.unique(detected.identities, return_index=True)
    ends = np.append(starts[1:], len(detected.identities))
    return [
        _Group(
            (identity,),
            detected.frames[start:end],
            times[detected.frames[start:end]],
            detected.boxes[start:end],
            group_embeddings,
        )
        for identity, start, end in zip(identities.tolist(), starts.tolist(), ends.tolist(), strict=False)
        if (group_embeddings := embeddings.get(identity)) is not None and len(group_embeddings)
    ]


def _costs(embeddings: Sequence[FloatArray]) -> FloatArray:
    """Return `(n, n)` distances between groups, infinite on the diagonal."""
    cost = np.full((len(embeddings), len(embeddings)), np.inf, np.float32)
    for row, own in enumerate(embeddings[:-1]):
        cost[row, row + 1 :] = cost[row + 1 :, row] = _cost_to_all(own, embeddings[row + 1 :])
    return cost


def _cost_to_all(own: FloatArray, others: Sequence[FloatArray]) -> FloatArray:
    """Return the distances of one group to others: the mean nearest distance of embeddings, averaged both ways."""
    distances = 1 - own @ np.concatenate(others).T
    ends = np.cumsum([len(other) for other in others])
    starts = ends - [len(other) for other in others]
    forward = np.minimum.reduceat(distances, starts, axis=1).mean(axis=0)
    backward = np.add.reduceat(distances.min(axis=0), starts) / (ends - starts)
    return np.asarray((forward + backward) / 2, np.float32)


def _mutual_nearest(cost: FloatArray, limit: float) -> list[tuple[int, int]]:
    """Return pairs of mutual nearest groups within a limit; the lower index first."""
    if not len(cost):
        return []
    nearest = cost.argmin(axis=1)
    rows = np.arange(len(cost))
    mutual = (nearest[nearest] == rows) & (rows < nearest) & (cost[rows, nearest] <= limit)
    return [(int(row), int(nearest[row])) for row in np.flatnonzero(mutual)]


def _can_be_same_person(
    first: _Group, second: _Group, config: RegroupingConfig, reid: ReIDConfig, picture: tuple[int, int] | None
) -> bool:
    """Tell whether two groups are never present at the same time and every change between them is within the gate."""
    if len(np.intersect1d(first.frames, second.frames, assume_unique=True)):
        return False
    both = first.merged(second)
    is_first = np.isin(both.frames, first.frames, assume_unique=True)
    changes = np.flatnonzero(is_first[1:] != is_first[:-1])
    if not reid.gate.reentry and at_border(both.boxes[changes], picture, reid.gate.exit_border).any():
        return False
    left_at, came_at = both.times[changes], both.times[changes + 1]
    within = within_gate(
        both.boxes[changes], left_at, both.boxes[changes + 1], came_at, reid.gate.slack, reid.gate.max_speed
    )
    return bool(within.all() and (came_at - left_at).max() <= config.max_gap_s)


def _with_new_identities(frames: Sequence[TrackedFrame], new_identities: Mapping[int, int]) -> list[TrackedFrame]:
    renamed = []
    for frame in frames:
        identities = np.array(
            [new_identities.get(identity, identity) for identity in frame.identities.tolist()], np.int64
        )
        # predicted rows of an identity are removed where it has a detection
        measured = frame.tracks.measured
        first = np.isin(np.arange(len(identities)), np.unique(identities, return_index=True)[1])
        rows = np.flatnonzero(measured | (first & ~np.isin(identities, identities[measured])))
        links = tuple(replace(link, identity=new_identities.get(link.identity, link.identity)) for link in frame.links)
        renamed.append(replace(frame, tracks=frame.tracks.select(rows), identities=identities[rows], links=links))
    return renamed

"""Identities of a whole file that look alike and were never there at once are joined.

While a video runs, each return is decided once, by what is known by then. At its end there are more looks at everybody,
and every pair of identities can be compared. Those that are nearest to one another are joined first, and what is joined
is compared anew: agglomerative clustering, with time and motion as constraints.
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
    """Gathers what identities look like while a video is tracked; bounded for each identity.

    Args:
        size: Embeddings kept of each identity.
        picture: Width and height of the pictures in pixels; None to take nobody for having left through the border.
    """

    def __init__(self, size: int, picture: tuple[int, int] | None = None) -> None:
        self.picture = picture
        self._gallery = Gallery(size)
        self._rows: dict[int, int] = {}

    def add(self, seen: EmbeddedCrops) -> None:
        """Take in the people of a frame."""
        for identity in seen.identities.tolist():
            if identity not in self._rows:
                self._rows[identity] = len(self._rows)
                self._gallery.append_rows(1)
        if len(seen.identities):
            rows = np.array([self._rows[identity] for identity in seen.identities.tolist()])
            self._gallery.add(rows, seen.embeddings)

    def looks(self) -> dict[int, FloatArray]:
        """Return `(k, d)` float32 unit vectors of each identity."""
        return {identity: self._gallery.embeddings_of(row) for identity, row in self._rows.items()}


@dataclass(frozen=True, slots=True)
class _Group:
    """Identities that are one person: where they were seen, in the order of time, and their looks."""

    identities: tuple[int, ...]
    frames: IntArray
    times: NDArray[np.float64]
    boxes: FloatArray
    looks: FloatArray

    def joined(self, other: _Group) -> _Group:
        order = np.argsort(np.concatenate([self.frames, other.frames]), kind="stable")
        return _Group(
            self.identities + other.identities,
            np.concatenate([self.frames, other.frames])[order],
            np.concatenate([self.times, other.times])[order],
            np.concatenate([self.boxes, other.boxes])[order],
            np.concatenate([self.looks, other.looks]),
        )


def regroup(
    frames: Sequence[TrackedFrame],
    looks: Mapping[int, FloatArray],
    config: RegroupingConfig,
    reid: ReIDConfig,
    picture: tuple[int, int] | None = None,
) -> list[TrackedFrame]:
    """Join identities that look alike, were never there at once, and can have come from one place to the other.

    Args:
        frames: Every frame of a video, in order.
        looks: `(k, d)` float32 unit vectors of identities; those without are left as they are.
        config: How long somebody may have been away.
        reid: `max_distance` and `gate` are used.
        picture: Width and height of the pictures in pixels; None to take nobody for having left through the border.

    Returns:
        The frames with other identities; what is joined bears the lowest number.
    """
    groups = _groups(frames, looks)
    cost = _costs([group.looks for group in groups])
    while pairs := _nearest_to_each_other(cost, reid.max_distance):
        gone = []
        for one, other in pairs:
            cost[one, other] = cost[other, one] = np.inf  # now or never
            if not _may_be_one(groups[one], groups[other], config, reid, picture):
                continue
            groups[one] = groups[one].joined(groups[other])
            gone.append(other)
            # whoever may not be the same person as either is not the same as both
            apart = np.isinf(cost[one]) | np.isinf(cost[other])
            cost[one] = np.where(apart, np.inf, _cost_to_all(groups[one].looks, [group.looks for group in groups]))
            cost[:, one] = cost[one]
        kept = np.setdiff1d(np.arange(len(groups)), gone)
        groups, cost = [groups[row] for row in kept.tolist()], cost[np.ix_(kept, kept)]
    names = {identity: min(group.identities) for group in groups for identity in group.identities}
    return _renamed(frames, names)


def _groups(frames: Sequence[TrackedFrame], looks: Mapping[int, FloatArray]) -> list[_Group]:
    rows, times = Rows.of(frames), np.array([frame.timestamp for frame in frames])
    seen = rows.take(np.flatnonzero(rows.detections != NO_DETECTION))
    identities, starts = np.unique(seen.identities, return_index=True)
    ends = np.append(starts[1:], len(seen.identities))
    return [
        _Group((identity,), seen.frames[start:end], times[seen.frames[start:end]], seen.boxes[start:end], found)
        for identity, start, end in zip(identities.tolist(), starts.tolist(), ends.tolist(), strict=False)
        if (found := looks.get(identity)) is not None and len(found)
    ]


def _costs(looks: Sequence[FloatArray]) -> FloatArray:
    """Return `(n, n)` distances between groups, infinite on the diagonal."""
    cost = np.full((len(looks), len(looks)), np.inf, np.float32)
    for row, mine in enumerate(looks[:-1]):
        cost[row, row + 1 :] = cost[row + 1 :, row] = _cost_to_all(mine, looks[row + 1 :])
    return cost


def _cost_to_all(mine: FloatArray, others: Sequence[FloatArray]) -> FloatArray:
    """Return the distances of one group to others: each look to the nearest of the other, averaged, both ways."""
    distances = 1 - mine @ np.concatenate(others).T
    ends = np.cumsum([len(other) for other in others])
    starts = ends - [len(other) for other in others]
    there = np.minimum.reduceat(distances, starts, axis=1).mean(axis=0)
    back = np.add.reduceat(distances.min(axis=0), starts) / (ends - starts)
    return np.asarray((there + back) / 2, np.float32)


def _nearest_to_each_other(cost: FloatArray, limit: float) -> list[tuple[int, int]]:
    """Return pairs of which either is the other's nearest, within a limit; the lower place first."""
    if not len(cost):
        return []
    nearest = cost.argmin(axis=1)
    rows = np.arange(len(cost))
    mutual = (nearest[nearest] == rows) & (rows < nearest) & (cost[rows, nearest] <= limit)
    return [(int(row), int(nearest[row])) for row in np.flatnonzero(mutual)]


def _may_be_one(
    one: _Group, other: _Group, config: RegroupingConfig, reid: ReIDConfig, picture: tuple[int, int] | None
) -> bool:
    """Tell whether two were never there at once and can have come from each place to the next in time."""
    if len(np.intersect1d(one.frames, other.frames, assume_unique=True)):
        return False
    both = one.joined(other)
    whose = np.isin(both.frames, one.frames, assume_unique=True)
    change = np.flatnonzero(whose[1:] != whose[:-1])
    if not reid.gate.reentry and at_border(both.boxes[change], picture, reid.gate.exit_border).any():
        return False
    left_at, came_at = both.times[change], both.times[change + 1]
    came = within_gate(
        both.boxes[change], left_at, both.boxes[change + 1], came_at, reid.gate.slack, reid.gate.max_speed
    )
    return bool(came.all() and (came_at - left_at).max() <= config.max_gap_s)


def _renamed(frames: Sequence[TrackedFrame], names: Mapping[int, int]) -> list[TrackedFrame]:
    renamed = []
    for frame in frames:
        identities = np.array([names.get(identity, identity) for identity in frame.identities.tolist()], np.int64)
        # where somebody was seen, what was predicted of them goes
        measured = frame.tracks.measured
        first = np.isin(np.arange(len(identities)), np.unique(identities, return_index=True)[1])
        rows = np.flatnonzero(measured | (first & ~np.isin(identities, identities[measured])))
        links = tuple(replace(link, identity=names.get(link.identity, link.identity)) for link in frame.links)
        renamed.append(replace(frame, tracks=frame.tracks.part(rows), identities=identities[rows], links=links))
    return renamed

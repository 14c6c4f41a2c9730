"""Everyone who is present in a video or remembered: one row each, in arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, load_array
from motserve.types import BoolArray, FloatArray, IntArray

NO_TRACK: Final = 0
"""Track IDs start at 1."""

UNDECIDED: Final = 0
"""Stands for the identity of somebody of whom it is not known yet whether they were here before."""

Seconds = NDArray[np.float64]

_LEAST_HEIGHT = 1.0  # pixels; a box without height is at a distance all the same


@dataclass(frozen=True, slots=True)
class People:
    """Columns of equal length.

    Attributes:
        key: `(n,)` int64, from 1, never given again.
        identity: `(n,)` int64, `UNDECIDED` for some.
        track: `(n,)` int64, track that holds the identity now.
        previous_track: `(n,)` int64, track that held it before the last link, or `NO_TRACK`; it takes the identity back if the
            tracker finds it again.
        born_at: `(n,)` float64, time in seconds at which the present track began.
        born_box: `(n, 4)` float32, where; xyxy in pixels.
        seen_at: `(n,)` float64, time in seconds at which they were seen last.
        box: `(n, 4)` float32, where; xyxy in pixels.
        last_embedded_at: `(n,)` float64, time in seconds of the last embedding, -inf without one.
        looks: `(n,)` int64, embeddings of the present track.
        hidden: `(n,)` bool, whether they could not be seen well since the last embedding: it may be somebody else now.
        suspect: `(n,)` bool, whether the last embedding was far from all that is remembered.
    """

    key: IntArray
    identity: IntArray
    track: IntArray
    previous_track: IntArray
    born_at: Seconds
    born_box: FloatArray
    seen_at: Seconds
    box: FloatArray
    last_embedded_at: Seconds
    looks: IntArray
    hidden: BoolArray
    suspect: BoolArray

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def nobody(cls) -> People:
        """Return no rows."""
        return cls.born(0, np.empty(0, np.int64), np.empty((0, 4), np.float32), 0.0)

    @classmethod
    def born(cls, first_key: int, tracks: IntArray, boxes: FloatArray, timestamp: float) -> People:
        """Return rows for tracks that begin.

        Args:
            first_key: Key of the first; the others follow.
            tracks: `(n,)` int64 track IDs.
            boxes: `(n, 4)` float32, xyxy in pixels.
            timestamp: Now, in seconds.
        """
        n = len(tracks)
        none = np.zeros(n, np.int64)
        now = np.full(n, timestamp)
        return cls(
            key=np.arange(first_key, first_key + n),
            identity=none + UNDECIDED,
            track=tracks.copy(),
            previous_track=none + NO_TRACK,
            born_at=now,
            born_box=boxes.copy(),
            seen_at=now.copy(),
            box=boxes.copy(),
            last_embedded_at=np.full(n, -np.inf),
            looks=none.copy(),
            hidden=np.zeros(n, np.bool_),
            suspect=np.zeros(n, np.bool_),
        )

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]]) -> People:
        """Return the rows that `to_arrays` was called on.

        Raises:
            ValueError: A column is missing or has another shape or type.
        """
        model = cls.nobody()
        n = len(state.get("key", ()))
        columns = {field.name: getattr(model, field.name) for field in fields(cls)}
        return cls(
            **{name: load_array(state, name, like.dtype.type, n, *like.shape[1:]) for name, like in columns.items()}
        )

    def to_arrays(self) -> State:
        """Return copies of the columns by name."""
        return {field.name: getattr(self, field.name).copy() for field in fields(self)}

    def joined(self, others: People) -> People:
        """Return these rows and then others."""
        return People(*(np.concatenate([getattr(self, f.name), getattr(others, f.name)]) for f in fields(self)))

    def part(self, rows: BoolArray) -> People:
        """Return the rows that are marked."""
        return People(*(getattr(self, f.name)[rows] for f in fields(self)))

    def rows_of(self, tracks: IntArray) -> IntArray:
        """Return `(n,)` the row of the person who holds each track, -1 for tracks not known."""
        if not len(self):
            return np.full(len(tracks), -1)
        order = np.argsort(self.track)
        place = np.searchsorted(self.track, tracks, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)]
        return np.where(self.track[rows] == tracks, rows, -1)


def within_gate(
    before: FloatArray, left_at: Seconds, after: FloatArray, came_at: Seconds, slack: float, speed: float
) -> BoolArray:
    """Tell who can have come from one place to the other in the time between; nobody came before they were gone.

    Args:
        before: `(..., 4)` float32, xyxy in pixels, where somebody was seen last.
        left_at: `(...)` float64, when, in seconds.
        after: `(..., 4)` float32, where somebody appeared. Shapes are broadcast.
        came_at: `(...)` float64, when, in seconds.
        slack: Distance in body heights that takes no time.
        speed: Body heights per second beyond it.

    Returns:
        `(...)` bool.
    """
    gap = came_at - left_at
    return np.asarray((gap > 0) & (distance_in_heights(after, before) <= slack + speed * gap))


def distance_in_heights(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Return `(...)` float32, distances between centres of `(..., 4)` boxes in mean heights of both; broadcast."""
    centre, other = ((b[..., :2] + b[..., 2:]) / 2 for b in (boxes, others))
    height, other_height = (b[..., 3] - b[..., 1] for b in (boxes, others))
    moved = np.linalg.norm(centre - other, axis=-1)
    return np.asarray(moved / np.maximum((height + other_height) / 2, _LEAST_HEIGHT), np.float32)

"""The identities that are present in a video or absent and stored: one row each, in arrays."""

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

NO_IDENTITY: Final = 0
"""Identities start at 1. Below 0 are provisional ones: the person may be a returning one, see `is_provisional`."""

NO_ROW: Final = -1
"""Stands for the row of a track that is not in the table."""

Seconds = NDArray[np.float64]

_MIN_HEIGHT = 1.0  # pixels; keeps the distance to a box without height finite


@dataclass(frozen=True, slots=True)
class IdentityTable:
    """One row for each identity; columns of equal length.

    Attributes:
        identity: `(n,)` int64, never `NO_IDENTITY`; provisional, and then never reused, until it is decided.
        track: `(n,)` int64, track that has the identity now.
        previous_track: `(n,)` int64, track that had it before the last link, or `NO_TRACK`; it takes the identity
            back if the tracker finds it again.
        born_at: `(n,)` float64, time in seconds at which the present track began.
        born_box: `(n, 4)` float32, its first box; xyxy in pixels.
        seen_at: `(n,)` float64, time in seconds of the last detection.
        box: `(n, 4)` float32, the last box; xyxy in pixels.
        last_embedded_at: `(n,)` float64, time in seconds of the last embedding, -inf without one.
        num_embeddings: `(n,)` int64, embeddings of the present track.
        occluded: `(n,)` bool, whether a crop was not trusted since the last embedding: the track may have switched to
            another person.
        suspect: `(n,)` bool, whether the last embedding was far from all stored ones.
    """

    identity: IntArray
    track: IntArray
    previous_track: IntArray
    born_at: Seconds
    born_box: FloatArray
    seen_at: Seconds
    box: FloatArray
    last_embedded_at: Seconds
    num_embeddings: IntArray
    occluded: BoolArray
    suspect: BoolArray

    def __len__(self) -> int:
        return len(self.identity)

    @classmethod
    def empty(cls) -> IdentityTable:
        """Return a table without rows."""
        return cls.for_tracks(-1, np.empty(0, np.int64), np.empty((0, 4), np.float32), 0.0)

    @classmethod
    def for_tracks(cls, provisional: int, tracks: IntArray, boxes: FloatArray, timestamp: float) -> IdentityTable:
        """Return rows for new tracks.

        Args:
            provisional: Provisional identity of the first row, below 0; the others follow downwards.
            tracks: `(n,)` int64 track IDs.
            boxes: `(n, 4)` float32, xyxy in pixels.
            timestamp: Now, in seconds.
        """
        n = len(tracks)
        none = np.zeros(n, np.int64)
        now = np.full(n, timestamp)
        return cls(
            identity=np.arange(provisional, provisional - n, -1),
            track=tracks.copy(),
            previous_track=none + NO_TRACK,
            born_at=now,
            born_box=boxes.copy(),
            seen_at=now.copy(),
            box=boxes.copy(),
            last_embedded_at=np.full(n, -np.inf),
            num_embeddings=none.copy(),
            occluded=np.zeros(n, np.bool_),
            suspect=np.zeros(n, np.bool_),
        )

    @classmethod
    def from_arrays(cls, state: Mapping[str, NDArray[Any]]) -> IdentityTable:
        """Return the table whose `to_arrays` returned the arrays.

        Raises:
            ValueError: A column is missing or has another shape or type.
        """
        model = cls.empty()
        n = len(state.get("identity", ()))
        columns = {field.name: getattr(model, field.name) for field in fields(cls)}
        return cls(
            **{name: load_array(state, name, like.dtype.type, n, *like.shape[1:]) for name, like in columns.items()}
        )

    def to_arrays(self) -> State:
        """Return copies of the columns by name."""
        return {field.name: getattr(self, field.name).copy() for field in fields(self)}

    def concatenated(self, other: IdentityTable) -> IdentityTable:
        """Return these rows followed by those of another table."""
        return IdentityTable(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def select(self, rows: BoolArray) -> IdentityTable:
        """Return the rows that are marked."""
        return IdentityTable(*(getattr(self, f.name)[rows] for f in fields(self)))

    def rows_of(self, tracks: IntArray) -> IntArray:
        """Return `(n,)` the row that has each track, `NO_ROW` for tracks that are not known."""
        if not len(self):
            return np.full(len(tracks), NO_ROW)
        order = np.argsort(self.track)
        place = np.searchsorted(self.track, tracks, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)]
        return np.where(self.track[rows] == tracks, rows, NO_ROW)


def is_provisional(identities: IntArray) -> BoolArray:
    """Return which identities are not decided yet.

    >>> is_provisional(np.array([3, -2, NO_IDENTITY])).tolist()
    [False, True, False]
    """
    return np.asarray(identities < NO_IDENTITY)


def within_gate(
    before: FloatArray, left_at: Seconds, after: FloatArray, came_at: Seconds, slack: float, speed: float
) -> BoolArray:
    """Tell which pairs are within the motion gate: the person can have moved between the boxes in the time between.

    A pair whose second box is not later than the first is outside the gate.

    Args:
        before: `(..., 4)` float32, xyxy in pixels, last box of a person who left.
        left_at: `(...)` float64, its time in seconds.
        after: `(..., 4)` float32, first box of a person who appeared. Shapes are broadcast.
        came_at: `(...)` float64, its time in seconds.
        slack: Distance in body heights that is always allowed.
        speed: Body heights per second that are allowed beyond it.

    Returns:
        `(...)` bool.
    """
    gap = came_at - left_at
    return np.asarray((gap > 0) & (distance_in_heights(after, before) <= slack + speed * gap))


def distance_in_heights(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Return `(...)` float32 distances between the centres of `(..., 4)` boxes in mean heights of both; broadcast."""
    centre, other = ((b[..., :2] + b[..., 2:]) / 2 for b in (boxes, others))
    height, other_height = (b[..., 3] - b[..., 1] for b in (boxes, others))
    distance = np.linalg.norm(centre - other, axis=-1)
    return np.asarray(distance / np.maximum((height + other_height) / 2, _MIN_HEIGHT), np.float32)

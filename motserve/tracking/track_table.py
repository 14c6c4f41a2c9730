"""All tracks of one video as a struct of arrays, a column per track."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.tracking.kalman import Motion
from motserve.tracking.time import TOLERANCE_S
from motserve.types import BoolArray, FloatArray, IntArray


@dataclass(slots=True)
class TrackTable:
    """The tracks that are alive, in the order of their IDs.

    Unconfirmed tracks were born in the latest frames, so they are the last columns.

    Attributes:
        ids: `(n,)` int64, rising.
        motion: `(r, n)` float64, state of the Kalman filter.
        matched_at: `(2, n)` float64, timestamps in seconds of the first and the latest matched frame.
        lost: `(n,)` bool, True where the latest frame had no match.
        expired: `(n,)` bool, True once the track was lost for longer than the buffer: it is removed unless matched.
        labels: `(n,)` int64, class of each track.
        votes: `(n,)` float64, confidence of its detections of that class less that of its other detections.
        confirmed: Number of confirmed tracks; they are the first columns.
        extra: Further columns of a tracker, by name; the last axis is that of the tracks. A new track has NaN, or -1
            in columns of whole numbers.
    """

    ids: IntArray
    motion: Motion
    matched_at: NDArray[np.float64]
    lost: BoolArray
    expired: BoolArray
    labels: IntArray
    votes: NDArray[np.float64]
    confirmed: int
    extra: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls, rows: int, extra: Mapping[str, NDArray[Any]] | None = None) -> TrackTable:
        """Return a table without tracks.

        Args:
            rows: Rows of the filter's state.
            extra: Further columns: arrays without a track, their last axis empty.
        """
        return cls(
            np.empty(0, np.int64),
            np.empty((rows, 0)),
            np.empty((2, 0)),
            np.empty(0, np.bool_),
            np.empty(0, np.bool_),
            np.empty(0, np.int64),
            np.empty(0),
            0,
            dict(extra or {}),
        )

    def keep(self, keep_mask: BoolArray) -> None:
        """Remove the tracks that are not marked.

        Args:
            keep_mask: `(n,)`, True for the tracks that stay.
        """
        columns = np.flatnonzero(keep_mask)
        self.confirmed = int(np.count_nonzero(keep_mask[: self.confirmed]))
        self.ids = self.ids.take(columns)
        self.motion = self.motion.take(columns, axis=1)
        self.matched_at = self.matched_at.take(columns, axis=1)
        self.lost = self.lost.take(columns)
        self.expired = self.expired.take(columns)
        self.labels = self.labels.take(columns)
        self.votes = self.votes.take(columns)
        for name, values in self.extra.items():
            self.extra[name] = values.take(columns, axis=-1)

    def overdue(self, timestamp: float, lost_buffer_s: float) -> BoolArray:
        """Return `(n,)` bool: which tracks have had no detection for longer than lost tracks are kept.

        Args:
            timestamp: Time of the frame in seconds.
            lost_buffer_s: Seconds that a lost track is kept.
        """
        overdue: BoolArray = timestamp - self.matched_at[1] > lost_buffer_s + TOLERANCE_S
        return overdue

    def label(self, matched: BoolArray, classes: IntArray, scores: FloatArray, by_vote: bool) -> None:
        """Give tracks the class of this frame's detections, or count it as a vote for or against their class.

        A track that is outvoted changes its class.

        Reference: Boyer and Moore, "MJRTY: A Fast Majority Vote Algorithm", 1991, with weights.

        Args:
            matched: `(n,)` which tracks were matched.
            classes: `(n,)` class of the detection of each; the value of an unmatched track has no effect.
            scores: `(n,)` its confidence.
            by_vote: Whether detections vote; otherwise the latest detection decides.
        """
        if not by_vote:
            np.copyto(self.labels, classes, where=matched)
            return
        weight = scores * matched
        against = matched & (classes != self.labels)
        if not against.any():
            self.votes += weight
            return
        self.votes += np.where(against, -weight, weight)
        outvoted = against & (self.votes < 0)
        np.copyto(self.labels, classes, where=outvoted)
        np.abs(self.votes, out=self.votes)

    def append(self, ids: IntArray, motion: Motion, timestamp: float, classes: IntArray, scores: FloatArray) -> None:
        """Add new tracks, unconfirmed.

        Args:
            ids: `(k,)` int64, their IDs, rising and above all others.
            motion: `(r, k)` float64, their motion.
            timestamp: Time of their first frame in seconds.
            classes: `(k,)` int64, class of the detection of each.
            scores: `(k,)` float32, its confidence.
        """
        flags = np.zeros(len(ids), np.bool_)
        self.ids = np.concatenate([self.ids, ids])
        self.motion = np.concatenate([self.motion, motion], axis=1)
        self.matched_at = np.concatenate([self.matched_at, np.full((2, len(ids)), timestamp)], axis=1)
        self.lost = np.concatenate([self.lost, flags])
        self.expired = np.concatenate([self.expired, flags])
        self.labels = np.concatenate([self.labels, classes])
        self.votes = np.concatenate([self.votes, scores])
        for name, values in self.extra.items():
            unknown = np.full((*values.shape[:-1], len(ids)), -1 if values.dtype.kind == "i" else np.nan, values.dtype)
            self.extra[name] = np.concatenate([values, unknown], axis=-1)

    def set_dimension(self, name: str, dimension: int) -> None:
        """Set the length of embeddings, the last axis but one of `extra[name]`; those of another length are dropped."""
        values = self.extra[name]
        if values.shape[-2] != dimension:
            self.extra[name] = np.full((*values.shape[:-2], dimension, len(self)), np.nan, values.dtype)

    def of_dimension(self, name: str, state: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        """Return an empty table with the same columns whose embeddings are as long as those of a state.

        Raises:
            ValueError: The state has no array of that name, or not of that shape.
        """
        saved, own = _column(state, name), self.extra[name]
        if saved.ndim != own.ndim:
            raise ValueError(f"state {name!r} has {saved.ndim} dimensions; expected {own.ndim}")
        shape = (*own.shape[:-2], saved.shape[-2], 0)
        return TrackTable.empty(len(self.motion), {**self.extra, name: np.empty(shape, own.dtype)})

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of the columns by name."""
        columns = {name: np.array(getattr(self, name)) for name in self._names()}
        return {**columns, **{name: values.copy() for name, values in self.extra.items()}}

    def restored(self, arrays: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        """Build a table with the same columns from the arrays that `to_arrays` returned.

        Args:
            arrays: The columns by name; other arrays are ignored.

        Returns:
            A table with copies of them.

        Raises:
            ValueError: A column is missing, or its shape or type is not that of a table.
        """
        n = len(_column(arrays, "ids"))
        models = {**{name: np.asarray(getattr(self, name)) for name in self._names()}, **self.extra}
        values: dict[str, NDArray[Any]] = {}
        for name, model in models.items():
            value = _column(arrays, name)
            shape = (*model.shape[:-1], n) if model.ndim else ()
            if value.shape != shape or value.dtype.kind != model.dtype.kind:
                raise ValueError(f"state {name!r} is {value.dtype} {value.shape}; expected {model.dtype} {shape}")
            values[name] = np.array(value, model.dtype)
        confirmed = int(values.pop("confirmed"))
        if not 0 <= confirmed <= n:
            raise ValueError(f"state 'confirmed' is {confirmed}; expected 0 to {n}")
        extra = {name: values.pop(name) for name in self.extra}
        return TrackTable(**values, confirmed=confirmed, extra=extra)

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.name != "extra"]


def _column(arrays: Mapping[str, NDArray[np.generic]], name: str) -> NDArray[np.generic]:
    try:
        return np.asarray(arrays[name])
    except KeyError:
        raise ValueError(f"state has no {name!r}; it was not written by this tracker") from None

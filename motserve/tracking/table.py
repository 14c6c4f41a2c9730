"""All tracks of one video as a struct of arrays, a column per track."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.tracking.kalman import Motion
from motserve.types import BoolArray, FloatArray, IntArray


@dataclass(slots=True)
class TrackTable:
    """The tracks that are alive, in the order of their IDs.

    Unconfirmed tracks were born in the latest frames, so they are the last columns.

    Attributes:
        ids: `(n,)` int64, rising.
        motion: `(r, n)` float64, state of the Kalman filter.
        seen: `(2, n)` float64, timestamps in seconds of the first and the latest matched frame.
        lost: `(n,)` bool, True where the latest frame had no match.
        expired: `(n,)` bool, True once the track was lost for longer than the buffer: it goes when not matched.
        labels: `(n,)` int64, class of each track.
        votes: `(n,)` float64, by how much confidence its detections were more of that class than of others.
        confirmed: The first `confirmed` columns are confirmed.
        extra: What else a tracker remembers of each track, by name; the last axis is that of the tracks. A new track
            has NaN, or -1 where whole numbers are kept.
    """

    ids: IntArray
    motion: Motion
    seen: NDArray[np.float64]
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
            rows: Rows that the filter has.
            extra: What else is remembered of each track: arrays without a track, their last axis empty.
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

    def keep(self, kept: BoolArray) -> None:
        """Remove the tracks that are not marked.

        Args:
            kept: `(n,)`, True for the tracks that stay.
        """
        columns = np.flatnonzero(kept)
        self.confirmed = int(np.count_nonzero(kept[: self.confirmed]))
        self.ids = self.ids.take(columns)
        self.motion = self.motion.take(columns, axis=1)
        self.seen = self.seen.take(columns, axis=1)
        self.lost = self.lost.take(columns)
        self.expired = self.expired.take(columns)
        self.labels = self.labels.take(columns)
        self.votes = self.votes.take(columns)
        for name, values in self.extra.items():
            self.extra[name] = values.take(columns, axis=-1)

    def label(self, hit: BoolArray, classes: IntArray, scores: FloatArray, by_vote: bool) -> None:
        """Give tracks the class of this frame's detections, or count these for or against the class of each.

        A track that was outvoted changes its class.

        Reference: Boyer and Moore, "MJRTY: A Fast Majority Vote Algorithm", 1991, with weights.

        Args:
            hit: `(n,)` which tracks were matched.
            classes: `(n,)` class of the detection of each; what stands under others has no effect.
            scores: `(n,)` its confidence.
            by_vote: Whether there is a vote; without one the latest detection decides.
        """
        if not by_vote:
            np.copyto(self.labels, classes, where=hit)
            return
        weight = scores * hit
        against = hit & (classes != self.labels)
        if not against.any():
            self.votes += weight
            return
        self.votes += np.where(against, -weight, weight)
        outvoted = against & (self.votes < 0)
        np.copyto(self.labels, classes, where=outvoted)
        np.abs(self.votes, out=self.votes)

    def append(self, ids: IntArray, motion: Motion, timestamp: float, classes: IntArray, scores: FloatArray) -> None:
        """Add newborn tracks, unconfirmed.

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
        self.seen = np.concatenate([self.seen, np.full((2, len(ids)), timestamp)], axis=1)
        self.lost = np.concatenate([self.lost, flags])
        self.expired = np.concatenate([self.expired, flags])
        self.labels = np.concatenate([self.labels, classes])
        self.votes = np.concatenate([self.votes, scores])
        for name, values in self.extra.items():
            unknown = np.full((*values.shape[:-1], len(ids)), -1 if values.dtype.kind == "i" else np.nan, values.dtype)
            self.extra[name] = np.concatenate([values, unknown], axis=-1)

    def set_dimension(self, name: str, dimension: int) -> None:
        """Make room for embeddings: the last axis but one of `extra[name]`; what is there of another length goes."""
        values = self.extra[name]
        if values.shape[-2] != dimension:
            self.extra[name] = np.full((*values.shape[:-2], dimension, len(self)), np.nan, values.dtype)

    def of_dimension(self, name: str, state: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        """Return a table of this kind, without a track, whose embeddings are as long as those of a state.

        Raises:
            ValueError: The state has none of that name, or none of that shape.
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

    def renewed(self, arrays: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        """Build a table of the same kind from what `to_arrays` returned.

        Args:
            arrays: The columns by name; others are not looked at.

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

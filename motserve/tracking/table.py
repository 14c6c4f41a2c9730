"""All tracks of one video as a struct of arrays, a column per track."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from motserve.tracking.kalman import ROWS, Motion
from motserve.types import BoolArray, IntArray


@dataclass(slots=True)
class TrackTable:
    """The tracks that are alive, in the order of their IDs.

    Unconfirmed tracks were all born in the latest frame, so they are the last columns.

    Attributes:
        ids: `(n,)` int64, rising.
        motion: `(14, n)` float64, state of the Kalman filter.
        seen: `(2, n)` float64, timestamps in seconds of the first and the latest matched frame.
        lost: `(n,)` bool, True where the latest frame had no match.
        expired: `(n,)` bool, True once the track was lost for longer than the buffer: it goes when not matched.
        confirmed: The first `confirmed` columns are confirmed.
    """

    ids: IntArray
    motion: Motion
    seen: NDArray[np.float64]
    lost: BoolArray
    expired: BoolArray
    confirmed: int

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls) -> TrackTable:
        """Return a table without tracks."""
        return cls(
            np.empty(0, np.int64),
            np.empty((ROWS, 0)),
            np.empty((2, 0)),
            np.empty(0, np.bool_),
            np.empty(0, np.bool_),
            0,
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

    def append(self, ids: IntArray, motion: Motion, timestamp: float) -> None:
        """Add newborn tracks, unconfirmed.

        Args:
            ids: `(k,)` int64, their IDs, rising and above all others.
            motion: `(14, k)` float64, their motion.
            timestamp: Time of their first frame in seconds.
        """
        flags = np.zeros(len(ids), np.bool_)
        self.ids = np.concatenate([self.ids, ids])
        self.motion = np.concatenate([self.motion, motion], axis=1)
        self.seen = np.concatenate([self.seen, np.full((2, len(ids)), timestamp)], axis=1)
        self.lost = np.concatenate([self.lost, flags])
        self.expired = np.concatenate([self.expired, flags])

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of the columns by name."""
        return {field.name: np.array(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        """Build a table from what `to_arrays` returned.

        Args:
            arrays: The columns by name; others are not looked at.

        Returns:
            A table with copies of them.

        Raises:
            ValueError: A column is missing, or its shape or type is not that of a table.
        """
        template = cls.empty()
        n = len(_column(arrays, "ids"))
        values: dict[str, NDArray[np.generic]] = {}
        for field in fields(cls):
            value = _column(arrays, field.name)
            model = np.asarray(getattr(template, field.name))
            shape = (*model.shape[:-1], n) if model.ndim else ()
            if value.shape != shape or value.dtype.kind != model.dtype.kind:
                raise ValueError(f"state {field.name!r} is {value.dtype} {value.shape}; expected {model.dtype} {shape}")
            values[field.name] = np.array(value, model.dtype)
        confirmed = int(values.pop("confirmed"))
        if not 0 <= confirmed <= n:
            raise ValueError(f"state 'confirmed' is {confirmed}; expected 0 to {n}")
        return cls(**values, confirmed=confirmed)  # type: ignore[arg-type]


def _column(arrays: Mapping[str, NDArray[np.generic]], name: str) -> NDArray[np.generic]:
    try:
        return np.asarray(arrays[name])
    except KeyError:
        raise ValueError(f"state has no {name!r}; it was not written by this tracker") from None

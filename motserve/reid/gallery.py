"""Stores a few varied embeddings of each identity, in one array whose size is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, load_array
from motserve.types import BoolArray, FloatArray, IntArray

_FIRST_ROWS = 16
_EMPTY = -1


class Gallery:
    """Up to `size` embeddings of each of many people, addressed by row.

    Where a row is full, a new embedding replaces the older of the two most similar ones, so that the stored embeddings
    cover as many views of a person as possible.

    Args:
        size: Most embeddings stored of each person; more cover more views and make comparisons slower.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._embeddings: FloatArray = np.empty((0, size, 0), np.float32)
        self._added_at: IntArray = np.empty((0, size), np.int64)
        """Tick at which each embedding was added, `_EMPTY` where there is none."""
        self._tick = 0

    def __len__(self) -> int:
        return len(self._added_at)

    @property
    def filled(self) -> BoolArray:
        """`(n,)` whether a row holds an embedding."""
        return np.asarray((self._added_at != _EMPTY).any(axis=1))

    def append_rows(self, count: int) -> None:
        """Add empty rows at the end."""
        self._added_at = np.concatenate([self._added_at, np.full((count, self._size), _EMPTY)])

    def keep(self, rows: BoolArray) -> None:
        """Remove all rows that are not marked in `(n,)`."""
        # rows appended since the last embedding may have no storage yet
        rows_to_keep = np.flatnonzero(rows[: len(self._embeddings)])
        self._embeddings[: len(rows_to_keep)] = self._embeddings[rows_to_keep]
        self._added_at = self._added_at[rows]

    def add(self, rows: IntArray, embeddings: FloatArray) -> None:
        """Add one embedding to each of `(m,)` different rows.

        Args:
            rows: `(m,)` int64, each row at most once.
            embeddings: `(m, d)` float32, unit length.
        """
        self._reserve(embeddings.shape[1])
        stored, added_at = self._embeddings[rows], self._added_at[rows]
        slots = np.argmax(added_at == _EMPTY, axis=1)
        full = np.flatnonzero((added_at != _EMPTY).all(axis=1))
        if len(full):
            slots[full] = self._older_of_most_similar(stored[full], added_at[full], embeddings[full])
        self._embeddings[rows, slots] = embeddings
        self._added_at[rows, slots] = self._tick
        self._tick += 1

    def merge(self, into: int, row: int) -> None:
        """Move the embeddings of one row to another."""
        order = np.argsort(self._added_at[row])
        for slot in order[self._added_at[row, order] != _EMPTY]:
            self.add(np.array([into]), self._embeddings[row, slot][None].copy())
        self._added_at[row] = _EMPTY

    def clear(self, rows: BoolArray) -> None:
        """Remove the embeddings of the rows marked in `(n,)`."""
        self._added_at[rows] = _EMPTY

    def embeddings_of(self, row: int) -> FloatArray:
        """Return a copy of the `(k, d)` embeddings of a row."""
        return np.asarray(self._embeddings[row][self._added_at[row] != _EMPTY])

    def nearest(self, rows: IntArray, embeddings: FloatArray) -> FloatArray:
        """Return `(m,)` the cosine distance of each embedding to the nearest of its own row, 2 for an empty row.

        Args:
            rows: `(m,)` int64.
            embeddings: `(m, d)` float32, unit length.
        """
        similarity = np.einsum("mkd,md->mk", self._embeddings[rows], embeddings)
        similarity[self._added_at[rows] == _EMPTY] = -1
        return np.asarray(1 - similarity.max(axis=1))

    def nearest_of(self, rows: IntArray, embeddings: FloatArray) -> FloatArray:
        """Return `(m, r)` the cosine distance of each of `(m, d)` embeddings to the nearest of each row.

        Args:
            rows: `(r,)` int64, rows that are filled.
            embeddings: `(m, d)` float32, unit length.
        """
        similarity = np.einsum("md,rkd->mrk", embeddings, self._embeddings[rows], optimize=True)
        missing = self._added_at[rows] == _EMPTY
        return np.asarray(1 - np.where(missing[None], -1, similarity).max(axis=2))

    def distances(self, queries: IntArray, rows: IntArray) -> FloatArray:
        """Compare people with people: the mean distance of each query embedding to the nearest one of the other row.

        Args:
            queries: `(m,)` int64, rows that are filled.
            rows: `(r,)` int64, rows that are filled.

        Returns:
            `(m, r)` float32 mean cosine distance in [0, 2].
        """
        similarity = np.einsum("mjd,rkd->mrjk", self._embeddings[queries], self._embeddings[rows], optimize=True)
        missing = self._added_at[rows] == _EMPTY
        nearest = np.where(missing[None, :, None, :], -1, similarity).max(axis=3)
        valid = self._added_at[queries] != _EMPTY
        total = np.where(valid[:, None, :], nearest, 0).sum(axis=2)
        return np.asarray(1 - total / np.count_nonzero(valid, axis=1)[:, None], np.float32)

    def state_dict(self) -> State:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        return {
            "embeddings": self._embeddings[: len(self)].copy(),  # the rest is spare capacity
            "added_at": self._added_at.copy(),
            "tick": np.array(self._tick, np.int64),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        embeddings = load_array(state, "embeddings", np.float32, -1, self._size, -1)
        added_at = load_array(state, "added_at", np.int64, -1, self._size)
        if (added_at[len(embeddings) :] != _EMPTY).any() or len(embeddings) > len(added_at):
            raise ValueError(f"the state has embeddings of {len(embeddings)} of {len(added_at)} people")
        self._embeddings, self._added_at = embeddings, added_at
        self._tick = int(load_array(state, "tick", np.int64))

    def _older_of_most_similar(self, stored: FloatArray, added_at: IntArray, embeddings: FloatArray) -> IntArray:
        """Return `(f,)` the slot in each full row that holds the older of the two most similar embeddings."""
        rows, size = stored.shape[:2]
        candidates = np.concatenate([stored, embeddings[:, None]], axis=1)
        similarity = candidates @ candidates.transpose(0, 2, 1)
        lower, left = np.tril_indices(size + 1)
        similarity[:, lower, left] = -np.inf
        first, second = np.divmod(similarity.reshape(rows, -1).argmax(axis=1), size + 1)
        row = np.arange(rows)
        newer = np.concatenate([added_at, np.full((rows, 1), self._tick)], axis=1)
        return np.asarray(np.where(newer[row, first] <= newer[row, second], first, second), np.int64)

    def _reserve(self, dimension: int) -> None:
        if len(self._embeddings) >= len(self) and self._embeddings.shape[2] == dimension:
            return
        rows = max(_FIRST_ROWS, 2 * len(self._embeddings), len(self))
        grown = np.zeros((rows, self._size, dimension), np.float32)
        if self._embeddings.shape[2] == dimension:
            grown[: len(self._embeddings)] = self._embeddings
        else:
            self._added_at[:] = _EMPTY  # embeddings of another network cannot be compared
        self._embeddings = grown

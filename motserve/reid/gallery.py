"""Remembers the last embeddings of each identity, in one block of memory that grows to a bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motserve.types import BoolArray, FloatArray, IntArray

_FIRST_ROWS = 16


class Gallery:
    """The last `size` embeddings of each of many people, addressed by row.

    Args:
        size: Embeddings kept of each person.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._embeddings: FloatArray = np.empty((0, size, 0), np.float32)
        self._added: IntArray = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._added)

    @property
    def filled(self) -> BoolArray:
        """`(n,)` whether a row holds an embedding."""
        return self._added > 0

    def append_rows(self, count: int) -> None:
        """Add empty rows at the end."""
        self._added = np.concatenate([self._added, np.zeros(count, np.int64)])

    def keep(self, rows: BoolArray) -> None:
        """Drop all rows but those marked in `(n,)`."""
        # rows appended since the last embedding may have no memory yet
        kept = np.flatnonzero(rows[: len(self._embeddings)])
        self._embeddings[: len(kept)] = self._embeddings[kept]
        self._added = self._added[rows]

    def add(self, rows: IntArray, embeddings: FloatArray) -> None:
        """Remember one more embedding for each of `(m,)` different rows, over the oldest where a row is full.

        Args:
            rows: `(m,)` int64, each row at most once.
            embeddings: `(m, d)` float32, unit length.
        """
        self._reserve(embeddings.shape[1])
        self._embeddings[rows, self._added[rows] % self._size] = embeddings
        self._added[rows] += 1

    def clear(self, rows: BoolArray) -> None:
        """Forget the embeddings of the rows marked in `(n,)`."""
        self._added[rows] = 0

    def distances(self, rows: IntArray, embeddings: FloatArray) -> FloatArray:
        """Return cosine distances to the best embedding of each row.

        Args:
            rows: `(r,)` int64, rows that are filled.
            embeddings: `(m, d)` float32, unit length.

        Returns:
            `(m, r)` float32 in [0, 2].
        """
        similarity = np.einsum("md,rkd->mrk", embeddings, self._embeddings[rows], optimize=True)
        empty: NDArray[np.bool_] = np.arange(self._size) >= self._added[rows][:, None]
        similarity[:, empty] = -1
        best: FloatArray = 1 - similarity.max(axis=2)
        return best

    def _reserve(self, dimension: int) -> None:
        if len(self._embeddings) >= len(self) and self._embeddings.shape[2] == dimension:
            return
        rows = max(_FIRST_ROWS, 2 * len(self._embeddings), len(self))
        grown = np.zeros((rows, self._size, dimension), np.float32)
        if self._embeddings.shape[2] == dimension:
            grown[: len(self._embeddings)] = self._embeddings
        self._embeddings = grown

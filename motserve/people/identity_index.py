"""Searches remembered people by appearance: an index of vectors in memory, kept in step with the store on disk.

Every process that searches has a copy of its own. Before a search the copy takes in what was added to and removed from
the store since the last one, so all copies answer alike, and nothing has to be told to anybody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from motserve.people.identity_store import IdentityStore
from motserve.types import FloatArray, IntArray

logger = logging.getLogger("motserve.people")

_PAGE = 2000  # rows read at a time: a writer waits for no longer than that
_HALF_BYTES, _ID_BYTES = 2, 8  # of a number of an embedding, and of whose it is
_GROWTH = 4  # times as many vectors are asked for where the first answer was too short


@dataclass(frozen=True, slots=True)
class Match:
    """Somebody who looks alike.

    Attributes:
        id: Number of the identity among the people of all videos.
        distance: Cosine distance between the closest two embeddings, in [0, 2]. Embeddings are kept in half precision,
            so it is right to about 0.001.
    """

    id: int
    distance: float


class IdentityIndex:
    """The remembered people whose embeddings one model made. May be used from several threads.

    Args:
        store: The truth on disk.
        model: What made the embeddings.
    """

    def __init__(self, store: IdentityStore, model: str) -> None:
        self._store = store
        self._model = model
        self._lock = threading.Lock()
        self._restart()

    @property
    def memory_bytes(self) -> int:
        """What the copy takes in memory."""
        if self._index is None:
            return 0
        return int(self._index.ntotal) * (_HALF_BYTES * int(self._index.d) + _ID_BYTES)

    def search(
        self,
        queries: FloatArray,
        limit: int,
        excluded: Collection[int] = (),
        max_distance: float | None = None,
    ) -> list[Match]:
        """Return who looks most like any of the queries, the most alike first.

        Args:
            queries: `(m, d)` float32, unit vectors, m at least 1: embeddings of one person.
            limit: Most matches returned.
            excluded: Identities that are left out.
            max_distance: Largest distance of a match; None for any.

        Raises:
            ValueError: The queries have another length than the embeddings in the index.
        """
        with self._lock:
            self._catch_up()
            index = self._index
            if index is None or not index.ntotal:
                return []
            if queries.shape[1] != index.d:
                raise ValueError(f"queries of {queries.shape[1]} dimensions, the index has {index.d}")
            ids, distances = self._nearest(index, queries, limit, np.fromiter(excluded, np.int64))
        order = np.argsort(distances, kind="stable")
        _, first = np.unique(ids[order], return_index=True)
        best = order[np.sort(first)[:limit]]
        matches = [Match(int(i), max(0.0, float(d))) for i, d in zip(ids[best], distances[best], strict=True)]
        return [match for match in matches if max_distance is None or match.distance <= max_distance]

    def _restart(self) -> None:
        """Begin a new copy. What is removed after this point will be learned of; what was, is not there to be read."""
        self._index: Any = None  # faiss has no types
        self._last = 0
        self._sequence = self._store.removed(0).sequence

    def _catch_up(self) -> None:
        """Take in what changed in the store.

        Additions are read before removals: somebody who goes in between is read, then removed; somebody who went before
        is not read at all, and removing who is not there does nothing.
        """
        self._take_in()
        removals = self._store.removed(self._sequence)
        if not removals.complete:
            logger.warning("the index was too long without a search to be brought up to date; it is loaded anew")
            self._restart()
            self._take_in()
            removals = self._store.removed(self._sequence)
        if removals.ids and self._index is not None:
            self._index.remove_ids(np.array(removals.ids, np.int64))
        self._sequence = removals.sequence

    def _take_in(self) -> None:
        started, first = time.monotonic(), self._index is None
        while rows := self._store.added(self._model, self._last, _PAGE):
            if self._index is None:
                half = faiss.ScalarQuantizer.QT_fp16
                flat = faiss.IndexScalarQuantizer(rows[0][1].shape[1], half, faiss.METRIC_INNER_PRODUCT)
                self._index = faiss.IndexIDMap(flat)
            ids = np.repeat(np.array([row[0] for row in rows], np.int64), [len(row[1]) for row in rows])
            self._index.add_with_ids(np.concatenate([row[1] for row in rows]).astype(np.float32), ids)
            self._last = rows[-1][0]
        if first and self._index is not None:
            seconds = round(time.monotonic() - started, 3)
            logger.info(
                "index loaded", extra={"model": self._model, "embeddings": self._index.ntotal, "seconds": seconds}
            )

    def _nearest(self, index: Any, queries: FloatArray, limit: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        """Return embeddings that are nearest to a query each, of at least `limit` identities for every query.

        Returns:
            `(n,)` int64 identities, some of them several times, none excluded; `(n,)` float32 distances. Fewer
            identities are in it only where the index has no more.
        """
        others: Any = faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded))
        options = faiss.SearchParameters(sel=others)  # type: ignore[call-arg]  # made in Python, where mypy looks not
        count = _GROWTH * limit
        while True:
            similarities, ids = index.search(np.ascontiguousarray(queries), min(count, index.ntotal), params=options)
            enough = count >= index.ntotal or all(len(np.unique(row[row >= 0])) >= limit for row in ids)
            if enough:
                found = ids >= 0
                return ids[found], 1 - similarities[found]
            count *= _GROWTH


class IdentityIndexes:
    """An index for each model that somebody searches with, loaded at its first search.

    Args:
        store: The truth on disk.
    """

    def __init__(self, store: IdentityStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._indexes: dict[str, IdentityIndex] = {}

    def of(self, model: str) -> IdentityIndex:
        """Return the index of a model."""
        with self._lock:
            if model not in self._indexes:
                self._indexes[model] = IdentityIndex(self._store, model)
            return self._indexes[model]

"""Searches stored people by appearance: a vector index in memory, synchronised with the store on disk.

Every process that searches has its own copy. Before a search the copy applies what was added to and removed from the
store since the last one, so all copies give the same results, and processes need not notify each other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from motserve.models.extras import required_extra
from motserve.people.identity_store import IdentityStore
from motserve.types import FloatArray, IntArray

logger = logging.getLogger("motserve.people")

_PAGE = 2000  # rows read at a time; bounds the time that a writer waits
_HALF_BYTES, _ID_BYTES = 2, 8  # bytes of a number of an embedding, and of its identity
_GROWTH = 4  # factor on the number of requested vectors where the last result had too few identities


@dataclass(frozen=True, slots=True)
class Match:
    """A stored identity of similar appearance.

    Attributes:
        id: Number of the identity in the index.
        distance: Cosine distance between the closest two embeddings, in [0, 2]. Embeddings are stored in half
            precision, so its error is about 0.001.
    """

    id: int
    distance: float


def _import_faiss() -> Any:
    with required_extra("serve", "the index of people"):
        import faiss
    return faiss


class IdentityIndex:
    """The stored people whose embeddings are of one model. Safe to use from several threads.

    Args:
        store: The store on disk.
        model: Key of the model of the embeddings.
    """

    def __init__(self, store: IdentityStore, model: str) -> None:
        self._faiss = _import_faiss()
        self._store = store
        self._model = model
        self._lock = threading.Lock()
        self._restart()

    @property
    def memory_bytes(self) -> int:
        """Size of the copy in memory."""
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
        """Return the identities that are most similar to any of the queries, the most similar first.

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
        """Start an empty copy. Removals after this point will be applied; rows removed before are not read."""
        self._index: Any = None  # faiss has no types
        self._last = 0
        self._sequence = self._store.removed(0).sequence

    def _catch_up(self) -> None:
        """Apply the changes of the store.

        Additions are read before removals: an identity removed in between is read, then removed; one removed before is
        not read at all, and removing an unknown identity does nothing.
        """
        self._add_new()
        removals = self._store.removed(self._sequence)
        if not removals.complete:
            logger.warning("the index missed too many removals since its last search to be updated; it is loaded again")
            self._restart()
            self._add_new()
            removals = self._store.removed(self._sequence)
        if removals.ids and self._index is not None:
            self._index.remove_ids(np.array(removals.ids, np.int64))
        self._sequence = removals.sequence

    def _add_new(self) -> None:
        started, first = time.monotonic(), self._index is None
        while rows := self._store.added(self._model, self._last, _PAGE):
            if self._index is None:
                half = self._faiss.ScalarQuantizer.QT_fp16
                width = rows[0][1].shape[1]
                flat = self._faiss.IndexScalarQuantizer(width, half, self._faiss.METRIC_INNER_PRODUCT)
                self._index = self._faiss.IndexIDMap(flat)
            ids = np.repeat(np.array([row[0] for row in rows], np.int64), [len(row[1]) for row in rows])
            self._index.add_with_ids(np.concatenate([row[1] for row in rows]).astype(np.float32), ids)
            self._last = rows[-1][0]
        if first and self._index is not None:
            seconds = round(time.monotonic() - started, 3)
            logger.info(
                "index loaded", extra={"model": self._model, "embeddings": self._index.ntotal, "seconds": seconds}
            )

    def _nearest(self, index: Any, queries: FloatArray, limit: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        """Return the embeddings that are nearest to each query, of at least `limit` identities for every query.

        Returns:
            `(n,)` int64 identities, possibly repeated, none excluded; `(n,)` float32 distances. There are fewer
            identities only where the index has no more.
        """
        not_excluded: Any = self._faiss.IDSelectorNot(self._faiss.IDSelectorBatch(excluded))
        options = self._faiss.SearchParameters(sel=not_excluded)
        count = _GROWTH * limit
        while True:
            similarities, ids = index.search(np.ascontiguousarray(queries), min(count, index.ntotal), params=options)
            enough = count >= index.ntotal or all(len(np.unique(row[row >= 0])) >= limit for row in ids)
            if enough:
                valid = ids >= 0
                return ids[valid], 1 - similarities[valid]
            count *= _GROWTH


class IdentityIndexes:
    """An index for each model that is searched, loaded at its first search.

    Args:
        store: The store on disk.
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

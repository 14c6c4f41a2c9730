"""Retrieval scores of embeddings: CMC, mean average precision, mean inverse negative penalty.

Distances arrive in blocks of a few queries, so that the whole matrix is never in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from motserve.errors import InvalidData
from motserve.lab.evaluation.reid_names import DISTRACTOR, JUNK
from motserve.types import FloatArray, IntArray

_CONVERTED_ROWS = 4096  # of the gallery in double precision at a time; more does not make the product faster
_INDEX_BITS = 32
_DROPPED = np.iinfo(np.int64).max  # key of crops that are not ranked: it sorts last


RETRIEVAL_RATIOS: Final = ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")
"""Names of the scores that are fractions."""


class Labelled(Protocol):
    """Crops with known identities and cameras."""

    @property
    def identities(self) -> IntArray:
        """`(n,)` int64; people from 1, `DISTRACTOR` or `JUNK`."""

    @property
    def cameras(self) -> IntArray:
        """`(n,)` int64."""


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Scores over all scored queries, as fractions in [0, 1].

    Attributes:
        rank1: Share of queries whose nearest gallery crop is right: CMC at 1.
        rank5: Share of queries with a right crop among the nearest five.
        rank10: Share of queries with a right crop among the nearest ten.
        mean_ap: Mean average precision, mAP.
        mean_inp: Mean inverse negative penalty, mINP: how early the last right crop is ranked.
        queries: Number of scored queries.
        skipped: Number of queries without a right crop in the gallery.
    """

    rank1: float
    rank5: float
    rank10: float
    mean_ap: float
    mean_inp: float
    queries: int
    skipped: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the scores by the names that papers print."""
        return {
            "Rank-1": self.rank1,
            "Rank-5": self.rank5,
            "Rank-10": self.rank10,
            "mAP": self.mean_ap,
            "mINP": self.mean_inp,
            "queries": self.queries,
            "skipped": self.skipped,
        }


def cosine_rows(query: FloatArray, gallery: FloatArray, batch: int) -> Iterator[FloatArray]:
    """Compare queries with a gallery, in blocks of queries.

    Args:
        query: `(q, d)` float32, unit length.
        gallery: `(g, d)` float32, unit length.
        batch: Queries in a block, at least 1; the last block may be smaller.

    Yields:
        Cosine distances `(<=batch, g)` float32 in [0, 2], in the order of the queries.

    Raises:
        InvalidData: An embedding is not finite.
    """
    _check_finite(query, "query")
    _check_finite(gallery, "gallery")
    for start in range(0, len(query), batch):
        rows = query[start : start + batch].astype(np.float64)
        block = np.empty((len(rows), len(gallery)), np.float32)
        for first in range(0, len(gallery), _CONVERTED_ROWS):
            part = slice(first, first + _CONVERTED_ROWS)
            # The summation order of a product depends on its size. Rounding from double precision hides that: equal
            # crops have equal distances, and the batch size changes no distance.
            block[:, part] = rows @ gallery[part].astype(np.float64).T
        np.subtract(1, block, out=block)
        yield np.maximum(block, 0, out=block)


def score_retrieval(blocks: Iterable[FloatArray], query: Labelled, gallery: Labelled) -> RetrievalScores:
    """Score rankings by the rules of Market-1501 (Zheng et al., ICCV 2015).

    Junk is not ranked. Distractors are ranked and never right. Crops of the query's person from the query's own camera
    are not ranked. Queries without a right crop are skipped, so all queries that are distractors or junk are. Average
    precision is the mean of the precision at each right crop; inverse negative penalty is the number of right crops
    over the rank of the last (Ye et al., TPAMI 2021). Of gallery crops at equal distance, the earlier in the gallery
    ranks first.

    Args:
        blocks: Distances `(b, g)` float32, one row for each query in the order of `query`, such as from
            `cosine_rows`; blocks may be of any size.
        query: Labels of the q queries.
        gallery: Labels of the g crops of the gallery.

    Returns:
        The scores over the queries that are not skipped.

    Raises:
        InvalidData: A distance is not finite, the number of distances is wrong, or all queries are skipped.
    """
    all_ranks = list(right_ranks(blocks, query, gallery))
    scored = [ranks for ranks in all_ranks if len(ranks)]
    if not scored:
        raise InvalidData(
            f"none of the {len(all_ranks)} queries can be scored: the gallery of {len(gallery.identities)} crops has "
            "none of their people from another camera; check that both are of one data set"
        )
    first = np.array([ranks[0] for ranks in scored])
    return RetrievalScores(
        rank1=float(np.mean(first <= 1)),
        rank5=float(np.mean(first <= 5)),
        rank10=float(np.mean(first <= 10)),
        mean_ap=float(np.mean([np.mean(np.arange(1, len(ranks) + 1) / ranks) for ranks in scored])),
        mean_inp=float(np.mean([len(ranks) / int(ranks[-1]) for ranks in scored])),
        queries=len(first),
        skipped=len(all_ranks) - len(first),
    )


def right_ranks(blocks: Iterable[FloatArray], query: Labelled, gallery: Labelled) -> Iterator[IntArray]:
    """Yield the ranks of the right crops of each query, by the rules of `score_retrieval`.

    Args:
        blocks: Distances, as `score_retrieval` takes them.
        query: Labels of the queries.
        gallery: Labels of the gallery.

    Yields:
        For each query the ranks of its right crops, `(r,)` int64, ascending from 1; empty if it is skipped.

    Raises:
        InvalidData: A distance is not finite, or the number of distances is wrong.
    """
    count = len(query.identities)
    done = 0
    for block in blocks:
        _check_block(block, done, count, len(gallery.identities))
        rows = slice(done, done + len(block))
        done += len(block)
        yield from _ranks(block, query.identities[rows], query.cameras[rows], gallery)
    if done != count:
        raise InvalidData(f"there are distances of {done} queries, but labels of {count}")


def order_keys(distances: FloatArray) -> IntArray:
    """Convert each row of distances to whole numbers that sort by distance and, if equal, by column.

    Sorting or partitioning them is exact about ties and, unlike a stable argsort, vectorised by NumPy.

    Args:
        distances: `(n, g)` float32, finite; g below 2**32.

    Returns:
        `(n, g)` int64, unique in a row; `key_columns` recovers the column.

    >>> key_columns(np.sort(order_keys(np.array([[0.5, -1.0, 0.5, 0.0]], np.float32)))).tolist()
    [[1, 3, 0, 2]]
    """
    # Adding zero makes -0.0 equal to 0.0. Read as whole numbers, positive floats are in order and negative floats in
    # reverse order; flipping all their bits but the sign corrects that.
    bits = (distances + np.float32(0)).view(np.int32)
    flips = bits >> 31
    flips &= np.iinfo(np.int32).max
    keys: IntArray = np.bitwise_xor(bits, flips, out=flips).astype(np.int64)
    keys <<= _INDEX_BITS
    keys |= np.arange(distances.shape[1])
    return keys


def key_columns(keys: IntArray) -> IntArray:
    """Return the columns of keys from `order_keys`, int64 of the same shape."""
    columns: IntArray = keys & ((1 << _INDEX_BITS) - 1)
    return columns


def _ranks(block: FloatArray, identities: IntArray, cameras: IntArray, gallery: Labelled) -> Iterator[IntArray]:
    """Yield the ranks, ascending from 1, of the right crops of each query of a block.

    Only these crops are searched in the sorted keys; the full ranking is not needed.
    """
    same_person = (identities[:, None] == gallery.identities) & (identities[:, None] > DISTRACTOR)
    same_camera = cameras[:, None] == gallery.cameras
    right = same_person & ~same_camera
    keys = order_keys(block)
    keys[same_person & same_camera] = _DROPPED
    keys[:, gallery.identities == JUNK] = _DROPPED
    for row, is_right in zip(keys, right, strict=True):
        right_keys = np.sort(row[is_right])
        row.sort()
        yield np.searchsorted(row, right_keys) + 1


def _check_finite(embeddings: FloatArray, name: str) -> None:
    # a sum of squares is finite if all values are, and needs no array of their size
    bad = np.flatnonzero(~np.isfinite(np.einsum("nd,nd->n", embeddings, embeddings)))
    if len(bad):
        raise InvalidData(
            f"the embedding of {name} crop {bad[0]} (from 0) is not finite, and {len(bad) - 1} more are not; "
            "check the crop and the embedder"
        )


def _check_block(block: FloatArray, done: int, queries: int, gallery: int) -> None:
    if block.ndim != 2 or block.shape[1] != gallery or done + len(block) > queries:
        raise InvalidData(
            f"a block of distances has shape {block.shape} after {done} queries; there are labels of {queries} queries "
            f"and {gallery} gallery crops"
        )
    if not np.isfinite(block).all():
        row, column = np.argwhere(~np.isfinite(block))[0].tolist()
        raise InvalidData(
            f"the distance of query {done + row} to gallery crop {column} (both from 0) is {block[row, column]}; "
            "check their embeddings"
        )

"""Re-ranks a gallery by k-reciprocal neighbours, without a matrix of all pairs in memory.

Only the nearest neighbours of each crop are stored; the dense matrices of the published algorithm are sparse here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from motserve.config import RerankConfig
from motserve.lab.evaluation.retrieval import cosine_rows, key_columns, order_keys
from motserve.types import FloatArray, IntArray


def rerank_rows(query: FloatArray, gallery: FloatArray, config: RerankConfig, batch: int) -> Iterator[FloatArray]:
    """Compare queries with a gallery by distance and by shared neighbours, in blocks of queries.

    k-reciprocal encoding with local query expansion (Zhong et al., CVPR 2017). The original distance is the squared
    Euclidean one, divided by the largest distance of a crop to any query or gallery crop, as in the authors' program;
    the other part is the Jaccard distance of the encodings. Every crop of both arguments may be a neighbour, so crops
    that must have no influence, such as junk, have to be removed before.

    Args:
        query: `(q, d)` float32, unit length.
        gallery: `(g, d)` float32, unit length.
        config: Numbers of neighbours and the weight of the original distance.
        batch: Number of crops compared with all others at a time, and of queries in a block, at least 1.

    Yields:
        Distances `(<=batch, g)` float32 in [0, 1], in the order of the queries. All neighbours are searched before the
        first block.

    Raises:
        InvalidData: An embedding is not finite.
    """
    crops = np.concatenate([query, gallery])
    nearest, farthest = _neighbours(crops, max(config.k1 + 1, config.k2), batch)
    encodings = _encode(crops, nearest, farthest, config.k1)
    if config.k2 > 1:
        own = nearest[:, : config.k2]
        encodings = csr_array(_pattern(own).astype(np.float64) @ encodings) / own.shape[1]
    of_gallery = csc_array(encodings[len(query) :])
    start = 0
    for block in cosine_rows(query, gallery, batch):
        # both this and `farthest` are half the squared Euclidean distance of unit vectors
        block *= config.original_weight / farthest[start : start + len(block), None]
        for row, distances in enumerate(block, start):
            part = slice(encodings.indptr[row], encodings.indptr[row + 1])
            jaccard = _jaccard(encodings.indices[part], encodings.data[part], of_gallery)
            distances += (1 - config.original_weight) * jaccard
        start += len(block)
        yield block


def _neighbours(crops: FloatArray, count: int, batch: int) -> tuple[IntArray, FloatArray]:
    """Return the nearest neighbours of each crop (mostly itself first) and the distance of the farthest crop."""
    count = min(count, len(crops))
    nearest = np.empty((len(crops), count), np.int64)
    farthest = np.empty(len(crops), np.float32)
    start = 0
    for block in cosine_rows(crops, crops, batch):
        rows = slice(start, start + len(block))
        keys = order_keys(block)
        keys.partition(count - 1, axis=1)
        nearest[rows] = key_columns(np.sort(keys[:, :count], axis=1))
        farthest[rows] = block.max(axis=1)
        start += len(block)
    # if all crops are equal, all distances are zero; do not divide by zero
    return nearest, np.maximum(farthest, np.finfo(np.float32).tiny)


def _encode(crops: FloatArray, nearest: IntArray, farthest: FloatArray, k1: int) -> csr_array:
    """Return for each crop the weights, summing to one, of its k-reciprocal neighbours and of theirs.

    The k1/2-reciprocal neighbours of a neighbour join if more than two thirds of them are neighbours already.
    """
    reciprocal = _reciprocal(nearest[:, : k1 + 1])
    half = _reciprocal(nearest[:, : round(k1 / 2) + 1])
    # reciprocity is symmetric, so `half` is its own transpose
    shared = (reciprocal * (reciprocal @ half)).tocoo()
    joins = 3 * shared.data > 2 * half.sum(axis=1)[shared.col]
    joining = csr_array((shared.data[joins], (shared.row[joins], shared.col[joins])), shape=shared.shape)
    members = csr_array(reciprocal + joining @ half)
    weights = np.empty(members.nnz)
    for row, (start, end) in enumerate(pairwise(members.indptr.tolist())):
        distances = 1 - crops[members.indices[start:end]] @ crops[row]
        closeness = np.exp(-distances.astype(np.float64) / farthest[row])
        weights[start:end] = closeness / closeness.sum()
    return csr_array((weights, members.indices, members.indptr), shape=members.shape)


def _reciprocal(nearest: IntArray) -> csr_array:
    """Mark the pairs of crops that are among the nearest of each other."""
    is_nearest = _pattern(nearest)
    return csr_array(is_nearest * is_nearest.T)


def _pattern(columns: IntArray) -> csr_array:
    """Return a square matrix that is one in the given columns of each row."""
    count, width = columns.shape
    ends = np.arange(0, columns.size + 1, width)
    return csr_array((np.ones(columns.size, np.int32), columns.ravel(), ends), shape=(count, count))


def _jaccard(members: NDArray[np.int32], weights: NDArray[np.float64], gallery: csc_array) -> NDArray[np.float64]:
    """Return `(g,)` Jaccard distances of one encoding to those of the gallery."""
    touched = gallery[:, members]
    least = np.minimum(touched.data, np.repeat(weights, np.diff(touched.indptr)))
    shared = np.bincount(touched.indices, least, minlength=touched.shape[0])
    distances: NDArray[np.float64] = 1 - shared / (2 - shared)
    return distances

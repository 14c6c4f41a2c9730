"""Boxes as four contiguous rows (left, top, right, bottom), and the IoU of the pairs that overlap."""

from __future__ import annotations

import numpy as np

from motserve.types import FloatArray, IntArray

_EPSILON = 1e-7  # keeps the quotient finite for boxes without area; part of the reference's IoU
_MANY = 200_000  # pairs from which sorting is faster than testing every pair
_ROUNDING = 1e-3  # margin of the quick test, so that rounding never loses a pair


def overlapping_pairs(a: FloatArray, b: FloatArray, least: float = 0.0) -> tuple[IntArray, IntArray, FloatArray]:
    """Find the pairs of boxes that overlap enough.

    Few pairs of a crowd overlap. A quick test finds them; only their IoU is computed. The test: an IoU of t needs an
    overlap of at least t times the first box's width and height.

    Args:
        a: `(4, n)` float32, boxes as rows left, top, right, bottom, in pixels.
        b: `(4, m)` float32, the same.
        least: Smallest IoU of interest, in [0, 1].

    Returns:
        Column in `a` and column in `b` of each pair, `(k,)` int64, in row-major order, and their IoU in [0, 1],
        `(k,)` float32. All pairs with an IoU above `least` are there, and some below it.

    Example:
        >>> a = np.array([[0, 50], [0, 50], [10, 60], [10, 60]], np.float32)
        >>> b = np.array([[5], [0], [15], [10]], np.float32)
        >>> rows, columns, iou = overlapping_pairs(a, b)
        >>> rows.tolist(), columns.tolist(), iou.round(2).tolist() == [np.float32(0.33)]
        ([0], [0], True)
    """
    margin = (a[2:] - a[:2]) * min(1 - least + _ROUNDING, 1.0)
    test = _test_all if a.shape[1] * b.shape[1] < _MANY else _sweep
    rows, columns = test(a[2:] - margin, a[:2] + margin, b)
    if rows.size == 0:
        return rows, columns, np.empty(0, np.float32)
    return rows, columns, _iou(a.take(rows, axis=1), b.take(columns, axis=1))


def _test_all(low: FloatArray, high: FloatArray, b: FloatArray) -> tuple[IntArray, IntArray]:
    """Find the pairs in which a box of `b` ends behind `low` and begins before `high`, by testing every pair."""
    overlaps = low[:, :, None] < b[2:, None, :]
    overlaps &= high[:, :, None] > b[:2, None, :]
    overlaps[0] &= overlaps[1]
    pairs = overlaps[0].ravel().nonzero()[0]
    rows = pairs // b.shape[1]
    return rows, pairs - rows * b.shape[1]


def _sweep(low: FloatArray, high: FloatArray, b: FloatArray) -> tuple[IntArray, IntArray]:
    """Find the same pairs by sorting along x and testing only those that are near enough along it."""
    order = np.argsort(b[0])
    left = b[0].take(order)
    widest = (b[2] - b[0]).max() * (1 + _ROUNDING)
    start, stop = left.searchsorted(low[0] - widest), left.searchsorted(high[0])
    count = np.maximum(stop - start, 0)
    ends = count.cumsum()
    rows = np.repeat(np.arange(count.size), count)
    columns = order.take(np.arange(rows.size) + np.repeat(start - ends + count, count))
    overlaps = low.take(rows, axis=1) < b[2:].take(columns, axis=1)
    overlaps &= high.take(rows, axis=1) > b[:2].take(columns, axis=1)
    overlaps[0] &= overlaps[1]
    pairs = overlaps[0].nonzero()[0]
    rows, columns = rows.take(pairs), columns.take(pairs)
    # row-major, as `_test_all` returns them
    order = np.argsort(rows * b.shape[1] + columns)
    return rows.take(order), columns.take(order)


def _iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the IoU of each column of `a` with the same column of `b`."""
    sides = np.minimum(a[2:], b[2:])
    sides -= np.maximum(a[:2], b[:2])
    np.maximum(sides, 0, out=sides)
    intersection: FloatArray = sides[0] * sides[1]
    union = (b[2] - b[0]) * (b[3] - b[1])
    union += (a[2] - a[0]) * (a[3] - a[1])
    union -= intersection
    union += _EPSILON
    intersection /= union
    return intersection

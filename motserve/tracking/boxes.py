"""Boxes as four contiguous rows (left, top, right, bottom), and the IoU of the pairs that overlap."""

from __future__ import annotations

import numpy as np

from motserve.types import FloatArray, IntArray

_EPSILON = 1e-7  # keeps the quotient finite for boxes without area; part of the reference's IoU
_ROUNDING = 1e-3  # the quick test of a pair lets this much more through, so that rounding never costs a pair


def overlapping_pairs(a: FloatArray, b: FloatArray, least: float = 0.0) -> tuple[IntArray, IntArray, FloatArray]:
    """Find the pairs of boxes that overlap enough.

    Few pairs of a crowd do. A quick test finds them; the IoU is computed for those alone. The test: an IoU of t
    needs an overlap of at least t times the first box's width and height.

    Args:
        a: `(4, n)` float32, boxes as rows left, top, right, bottom, in pixels.
        b: `(4, m)` float32, the same.
        least: IoU that matters, in [0, 1].

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
    slack = (a[2:] - a[:2]) * min(1 - least + _ROUNDING, 1.0)
    meets = (a[2:] - slack)[:, :, None] < b[2:, None, :]
    meets &= (a[:2] + slack)[:, :, None] > b[:2, None, :]
    meets[0] &= meets[1]
    pairs = meets[0].ravel().nonzero()[0]
    if pairs.size == 0:
        return pairs, pairs, np.empty(0, np.float32)
    rows = pairs // b.shape[1]
    columns = pairs - rows * b.shape[1]
    return rows, columns, paired_iou(a.take(rows, axis=1), b.take(columns, axis=1))


def grow(boxes: FloatArray, share: FloatArray | float) -> FloatArray:
    """Return boxes that are larger on each side by a share of their width and height.

    Args:
        boxes: `(4, n)` float32, rows left, top, right, bottom.
        share: The share, from 0; one for all or `(n,)`.
    """
    margin = (boxes[2:] - boxes[:2]) * share
    return np.concatenate([boxes[:2] - margin, boxes[2:] + margin]).astype(np.float32, copy=False)


def paired_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the IoU of each column of `a` with the same column of `b`, `(k,)` float32."""
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

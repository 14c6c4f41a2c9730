"""Association of tracks with detections: the one-to-one matching of least total cost, below a cost limit."""

from __future__ import annotations

from typing import NamedTuple

import lap
import numpy as np
from numpy.typing import NDArray

from motserve.tracking.boxes import overlapping_pairs
from motserve.types import BoolArray, FloatArray, IntArray

_TIE = 1e-12  # gain of a match at exactly the limit, so that it is preferred to no match


class Candidates(NamedTuple):
    """The pairs of a track and a detection that any association could match.

    Attributes:
        rows: `(k,)` int64, column of the track.
        columns: `(k,)` int64, column of the detection.
        cost: `(k,)` float32, 1 - IoU.
    """

    rows: IntArray
    columns: IntArray
    cost: FloatArray

    def select(self, mask: BoolArray) -> Candidates:
        """Return the pairs that are marked."""
        chosen = mask.nonzero()[0]
        return Candidates(self.rows.take(chosen), self.columns.take(chosen), self.cost.take(chosen))

    def fused(self, scores: FloatArray | None) -> FloatArray:
        """Return the costs fused with the confidences.

        Args:
            scores: `(m,)` float32: the cost becomes 1 - IoU x score; None leaves it unchanged.
        """
        if scores is None:
            return self.cost
        # The reference converts distance back to IoU before it fuses; this keeps its rounding.
        return 1 - (1 - self.cost) * scores.take(self.columns)


def find_candidates(tracks: FloatArray, detections: FloatArray, limit: float) -> Candidates:
    """Find the pairs of boxes that are close enough to match.

    Args:
        tracks: `(4, n)` float32, rows left, top, right, bottom, in pixels.
        detections: `(4, m)` float32, the same.
        limit: Largest limit that a match will use, in (0, 1]. A pair without overlap is never a candidate.

    Returns:
        All pairs up to the limit, and perhaps some beyond it.
    """
    rows, columns, iou = overlapping_pairs(tracks, detections, 1 - limit)
    return Candidates(rows, columns, 1 - iou)


def match(candidates: Candidates, limit: float, scores: FloatArray | None = None) -> tuple[IntArray, IntArray]:
    """Match tracks with detections at the least total cost.

    Args:
        candidates: The pairs to choose from.
        limit: Largest cost of a match, in (0, 1].
        scores: `(m,)` float32, confidences to fuse, see `Candidates.fused`; None for none.

    Returns:
        Column of the track and column of the detection of each match, `(j,)` int64 each.
    """
    if candidates.rows.size == 0:
        return candidates.rows, candidates.columns
    return assign(candidates.rows, candidates.columns, candidates.fused(scores).astype(np.float64), limit)


def assign(rows: IntArray, columns: IntArray, cost: NDArray[np.float64], limit: float) -> tuple[IntArray, IntArray]:
    """Solve the assignment problem over a sparse list of pairs.

    A pair that costs more than the limit is removed; leaving a row and a column unmatched costs as much as a match at
    the limit. The gain of a pair is the limit less its cost. A pair that gains more than all other pairs of its row
    and of its column together belongs to every optimal solution. In tracking this decides nearly all pairs; a dense
    solver decides the rest.

    Args:
        rows: `(k,)` int64, row of each pair, from 0.
        columns: `(k,)` int64, column of each pair, from 0. No pair is listed twice.
        cost: `(k,)` float64, cost of each pair.
        limit: Largest cost of a match.

    Returns:
        Rows and columns of the matches, `(j,)` int64 each.

    Example:
        >>> rows, columns = np.array([0, 0, 1]), np.array([0, 1, 0])
        >>> [matched.tolist() for matched in assign(rows, columns, np.array([0.1, 0.3, 0.2]), 0.8)]
        [[0, 1], [1, 0]]
    """
    gain = (limit + _TIE) - cost
    has_gain = (gain > 0).nonzero()[0]
    if has_gain.size < rows.size:
        rows, columns, gain = rows.take(has_gain), columns.take(has_gain), gain.take(has_gain)
    # The pair itself is in both sums, hence 3 instead of 1.
    row_gain, column_gain = np.bincount(rows, gain), np.bincount(columns, gain)
    certain = 3 * gain > row_gain.take(rows) + column_gain.take(columns)
    chosen = certain.nonzero()[0]
    if chosen.size == rows.size:
        return rows, columns
    certain_rows, certain_columns = rows.take(chosen), columns.take(chosen)
    # Pairs that share a row or a column with a certain pair are excluded.
    excluded = np.bincount(certain_rows, minlength=row_gain.size).take(rows)
    excluded += np.bincount(certain_columns, minlength=column_gain.size).take(columns)
    remaining = (excluded == 0).nonzero()[0]
    if remaining.size == 0:
        return certain_rows, certain_columns
    more_rows, more_columns = _solve(rows.take(remaining), columns.take(remaining), gain.take(remaining))
    return np.concatenate([certain_rows, more_rows]), np.concatenate([certain_columns, more_columns])


def _solve(rows: IntArray, columns: IntArray, gain: NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    """Choose the pairs with the greatest sum of gains by a dense solver."""
    row_values, column_values = np.bincount(rows).nonzero()[0], np.bincount(columns).nonzero()[0]
    cost = np.zeros((row_values.size, column_values.size))
    cost[np.searchsorted(row_values, rows), np.searchsorted(column_values, columns)] = -gain
    _, column_of, _ = lap.lapjv(cost, extend_cost=True)
    chosen_row = np.flatnonzero(column_of >= 0)
    chosen_column = column_of[chosen_row]
    has_gain = cost[chosen_row, chosen_column] < 0
    return row_values[chosen_row[has_gain]], column_values[chosen_column[has_gain]]

"""Which track goes with which detection: the cheapest one-to-one matching under a limit of cost."""

from __future__ import annotations

from typing import NamedTuple

import lap
import numpy as np
from numpy.typing import NDArray

from motserve.tracking.boxes import overlapping_pairs
from motserve.types import BoolArray, FloatArray, IntArray

_TIE = 1e-12  # what a match at exactly the limit is worth, so that it is preferred to none


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

    def select(self, wanted: BoolArray) -> Candidates:
        """Return the pairs that are marked."""
        chosen = wanted.nonzero()[0]
        return Candidates(self.rows.take(chosen), self.columns.take(chosen), self.cost.take(chosen))

    def fused(self, scores: FloatArray | None) -> FloatArray:
        """Return the costs with confidences in them.

        Args:
            scores: `(m,)` float32: the cost becomes 1 - IoU x score; None leaves it as it is.
        """
        if scores is None:
            return self.cost
        # The reference goes back from distance to IoU before it fuses; its rounding is kept.
        return 1 - (1 - self.cost) * scores.take(self.columns)


def find_candidates(tracks: FloatArray, detections: FloatArray, limit: float) -> Candidates:
    """Find the pairs of boxes that are close enough to match.

    Args:
        tracks: `(4, n)` float32, rows left, top, right, bottom, in pixels.
        detections: `(4, m)` float32, the same.
        limit: Largest cost that will be asked for, in (0, 1]. A pair without overlap is never a candidate.

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

    A pair that costs more than the limit is cut; leaving a row and a column unmatched costs as much as a match at
    the limit. The gain of a pair is what it stays below the limit. A pair that gains more than all other pairs of
    its row and of its column together belongs to every best solution, as exchanging them for it pays. In tracking
    that settles nearly all; a dense solver gets the rest.

    Args:
        rows: `(k,)` int64, row of each pair, from 0.
        columns: `(k,)` int64, column of each pair, from 0. No pair is listed twice.
        cost: `(k,)` float64, cost of each pair.
        limit: Largest cost of a match.

    Returns:
        Rows and columns of the matches, `(j,)` int64 each.

    Example:
        >>> rows, columns = np.array([0, 0, 1]), np.array([0, 1, 0])
        >>> [found.tolist() for found in assign(rows, columns, np.array([0.1, 0.3, 0.2]), 0.8)]
        [[0, 1], [1, 0]]
    """
    gain = (limit + _TIE) - cost
    pays = (gain > 0).nonzero()[0]
    if pays.size < rows.size:
        rows, columns, gain = rows.take(pays), columns.take(pays), gain.take(pays)
    if rows.size == 0:
        return rows, columns
    # Others of the row and of the column: two sums, each less the pair itself.
    row_gain, column_gain = np.bincount(rows, gain), np.bincount(columns, gain)
    settled = 3 * gain > row_gain.take(rows) + column_gain.take(columns)
    chosen = settled.nonzero()[0]
    if chosen.size == rows.size:
        return rows, columns
    settled_rows, settled_columns = rows.take(chosen), columns.take(chosen)
    # Whatever shares a row or a column with a settled pair is out.
    beaten = np.bincount(settled_rows, minlength=row_gain.size).take(rows)
    beaten += np.bincount(settled_columns, minlength=column_gain.size).take(columns)
    left = (beaten == 0).nonzero()[0]
    if left.size == 0:
        return settled_rows, settled_columns
    more_rows, more_columns = _solve(rows.take(left), columns.take(left), gain.take(left))
    return np.concatenate([settled_rows, more_rows]), np.concatenate([settled_columns, more_columns])


def _solve(rows: IntArray, columns: IntArray, gain: NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    """Choose the pairs with the greatest sum of gains by a dense solver."""
    row_values, column_values = np.bincount(rows).nonzero()[0], np.bincount(columns).nonzero()[0]
    cost = np.zeros((row_values.size, column_values.size))
    cost[np.searchsorted(row_values, rows), np.searchsorted(column_values, columns)] = -gain
    _, column_of, _ = lap.lapjv(cost, extend_cost=True)
    chosen_row = np.flatnonzero(column_of >= 0)
    chosen_column = column_of[chosen_row]
    pays = cost[chosen_row, chosen_column] < 0
    return row_values[chosen_row[pays]], column_values[chosen_column[pays]]

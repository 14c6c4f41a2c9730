"""Finds duplicate tracks: a tracked and a lost track of the same object."""

from __future__ import annotations

import numpy as np

from motserve.tracking.boxes import overlapping_pairs
from motserve.tracking.time import TOLERANCE_S
from motserve.tracking.track_table import TrackTable
from motserve.types import BoolArray, FloatArray


def find_duplicates(
    table: TrackTable, boxes: FloatArray, timestamp: float, min_iou: float, class_aware: bool
) -> BoolArray | None:
    """Mark the younger of each overlapping pair of a tracked and a lost track; at equal age the tracked one.

    Args:
        table: The `n` tracks.
        boxes: `(4, n)` float32, their boxes, xyxy in pixels.
        timestamp: Now, in seconds.
        min_iou: IoU above which a pair is a duplicate.
        class_aware: Whether only tracks of one class can be duplicates.

    Returns:
        `(n,)`, True for the tracks to remove; None where there are none.
    """
    lost = table.lost.nonzero()[0]
    if lost.size == 0 or lost.size == len(table):
        return None
    tracked = (~table.lost).nonzero()[0]
    rows, columns, iou = overlapping_pairs(boxes.take(tracked, axis=1), boxes.take(lost, axis=1), min_iou)
    is_same = 1 - iou < 1 - min_iou
    if class_aware:
        is_same &= table.labels.take(tracked.take(rows)) == table.labels.take(lost.take(columns))
    same = is_same.nonzero()[0]
    if same.size == 0:
        return None
    tracked, lost = tracked[rows[same]], lost[columns[same]]
    first, last = table.matched_at
    older = timestamp - first[tracked] > last[lost] - first[lost] + TOLERANCE_S
    duplicate = np.zeros(len(table), np.bool_)
    duplicate[lost[older]] = True
    duplicate[tracked[~older]] = True
    return duplicate

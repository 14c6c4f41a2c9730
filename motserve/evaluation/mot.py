"""CLEAR and Identity metrics of one sequence, computed by motmetrics.

motmetrics' own IoU distance fails on NumPy 2, so the distances are computed here and handed to its accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import motmetrics
import numpy as np
from numpy.typing import NDArray

from motserve.results import MotTable
from motserve.types import FloatArray

_LEAST_IOU = 0.5  # of a correct match, fixed by the benchmarks (Bernardin and Stiefelhagen 2008; MOTChallenge)
_METRICS = ["mota", "idf1", "num_switches", "num_false_positives", "num_misses", "num_fragmentations"]


@dataclass(frozen=True, slots=True)
class MotScores:
    """Scores of a sequence.

    Attributes:
        mota: Multi-object tracking accuracy, at most 1; not finite where the truth has nobody.
        idf1: Identity F1 in [0, 1] (Ristani et al. 2016); nan where neither truth nor tracks have anybody.
        id_switches: How often a person's identity changes.
        false_positives: Boxes without a person.
        misses: People without a box.
        fragmentations: How often a person's track is interrupted.
    """

    mota: float
    idf1: float
    id_switches: int
    false_positives: int
    misses: int
    fragmentations: int


def score_tracks(truth: MotTable, results: MotTable) -> MotScores:
    """Score tracks against ground truth in which every row is a person; rows flagged 0 do not count.

    Args:
        truth: Ground truth; `scores` is the flag.
        results: Tracks.

    Returns:
        The scores over the whole sequence.
    """
    counted = truth.scores > 0
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    last = max((int(table.frames.max()) for table in (truth, results) if len(table)), default=-1)
    for frame in range(last + 1):
        people = np.flatnonzero(counted & (truth.frames == frame))
        tracks = np.flatnonzero(results.frames == frame)
        distances = 1 - _iou(truth.boxes[people], results.boxes[tracks])
        distances[distances > 1 - _LEAST_IOU] = np.nan
        accumulator.update(truth.ids[people], results.ids[tracks], distances)
    summary = motmetrics.metrics.create().compute(accumulator, metrics=_METRICS, name="sequence").iloc[0]
    return MotScores(float(summary["mota"]), float(summary["idf1"]), *(int(summary[name]) for name in _METRICS[2:]))


def _iou(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """Return the IoU of each of `(n, 4)` boxes with each of `(m, 4)`."""
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float64).tiny))

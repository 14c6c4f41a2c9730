"""Fills the gaps of identities and smooths their boxes, over a whole file.

Reference: Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023, whose
Gaussian-smoothed interpolation fits a Gaussian process to each track; here lines are fitted with Gaussian weights
around each box, which does not change a constant speed at any frame rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from motserve.config import InterpolationConfig
from motserve.postprocessing.rows import Rows
from motserve.tracking.time import TOLERANCE_S
from motserve.types import INTERPOLATED, NO_DETECTION, FloatArray, TrackedFrame

_CUTOFF = 4.0  # standard deviations beyond which Gaussian weights are taken as 0


def fill_gaps(frames: Sequence[TrackedFrame], config: InterpolationConfig) -> list[TrackedFrame]:
    """Fill the gaps of each identity, and smooth its boxes where that is configured.

    Args:
        frames: Every frame of a video, in order.
        config: Longest gap, and amount of smoothing.

    Returns:
        The frames, with additional rows where an identity was missing between two detections: on a straight line in
        time, with the lower confidence of both and `INTERPOLATED` as row of the detection. They replace predicted
        rows. Rows are in the order of their IDs.
    """
    if not frames:
        return []
    rows = Rows.of(frames)
    times = np.array([frame.timestamp for frame in frames])
    predicted = rows.select(np.flatnonzero(rows.detections == NO_DETECTION))
    rows = rows.select(np.flatnonzero(rows.detections != NO_DETECTION))
    rows = rows.concatenated(_missing(rows, times, config.max_gap_s)).sorted()
    if config.smoothing_s:
        rows = replace(rows, boxes=_smoothed(rows, times, config.smoothing_s))
    predicted_keys, filled_keys = (item.identities * len(frames) + item.frames for item in (predicted, rows))
    rows = rows.concatenated(predicted.select(np.flatnonzero(~np.isin(predicted_keys, filled_keys))))
    return rows.split(frames)


def _missing(rows: Rows, times: NDArray[np.float64], max_gap_s: float) -> Rows:
    """Return the interpolated rows between two detections of an identity."""
    before, after = rows.frames[:-1], rows.frames[1:]
    same = rows.identities[1:] == rows.identities[:-1]
    starts = np.flatnonzero(same & (after - before > 1) & (times[after] - times[before] <= max_gap_s + TOLERANCE_S))
    count = after[starts] - before[starts] - 1
    start = np.repeat(starts, count)
    frames = before[start] + 1 + np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    share = (times[frames] - times[before[start]]) / (times[after[start]] - times[before[start]])
    boxes = rows.boxes[start] + share[:, None] * (rows.boxes[start + 1] - rows.boxes[start])
    return Rows(
        frames,
        rows.identities[start],
        rows.ids[start],
        boxes.astype(np.float32),
        np.minimum(rows.scores[start], rows.scores[start + 1]),
        rows.classes[start],
        np.full(len(start), INTERPOLATED),
    )


def _smoothed(rows: Rows, times: NDArray[np.float64], smoothing_s: float) -> FloatArray:
    """Return boxes on lines fitted around each box with Gaussian weights; segments between gaps are independent."""
    boxes: FloatArray = rows.boxes.copy()
    breaks = np.flatnonzero((np.diff(rows.frames) != 1) | (np.diff(rows.identities) != 0)) + 1
    for stretch in np.split(np.arange(len(rows.frames)), breaks):
        segment, segment_times = rows.boxes[stretch].astype(np.float64), times[rows.frames[stretch]]
        smooth = _local_lines(segment, segment_times, smoothing_s)
        valid = (smooth[:, 2:] > smooth[:, :2]).all(axis=1)  # a line may give a negative size where sizes jump
        boxes[stretch[valid]] = smooth[valid]
    return boxes


def _local_lines(
    segment: NDArray[np.float64], segment_times: NDArray[np.float64], deviation: float
) -> NDArray[np.float64]:
    """Fit a line around each point, with Gaussian weights in time, and return its value there."""
    count = len(segment)
    weight, first, second = np.ones(count), np.zeros(count), np.zeros(count)
    value, moment = segment.copy(), np.zeros_like(segment)
    for offset in range(1, count):
        span = segment_times[offset:] - segment_times[:-offset]
        if span.min() > _CUTOFF * deviation:
            break
        near = np.exp(-0.5 * np.square(span / deviation))
        for target, source, distance in (
            (slice(None, -offset), slice(offset, None), span),
            (slice(offset, None), slice(None, -offset), -span),
        ):
            weight[target] += near
            first[target] += near * distance
            second[target] += near * distance**2
            value[target] += near[:, None] * segment[source]
            moment[target] += (near * distance)[:, None] * segment[source]
    determinant = weight * second - first**2
    lines = (second[:, None] * value - first[:, None] * moment) / np.where(determinant > 0, determinant, 1)[:, None]
    return np.asarray(np.where((determinant > 0)[:, None], lines, segment))

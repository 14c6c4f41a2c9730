"""The gaps of identities filled and their boxes smoothed, once the end of a file is known.

Reference: Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023, whose
Gaussian-smoothed interpolation fits a process to each track; here lines are fitted with Gaussian weights around each
box, which leaves a constant speed as it is at any frame rate.
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

_REACH = 4.0  # deviations of a Gaussian beyond which nothing counts


def fill_gaps(frames: Sequence[TrackedFrame], config: InterpolationConfig) -> list[TrackedFrame]:
    """Fill the gaps of each identity, and smooth its boxes where that is configured.

    Args:
        frames: Every frame of a video, in order.
        config: How long a gap may be, and how much is smoothed.

    Returns:
        The frames, with rows more where somebody was missing between two sightings: on a straight line in time, with
        the lesser confidence of both and the `INTERPOLATED` row of detection. They replace predicted ones. Rows are
        in the order of their IDs.
    """
    if not frames:
        return []
    rows = Rows.of(frames)
    times = np.array([frame.timestamp for frame in frames])
    predicted = rows.take(np.flatnonzero(rows.detections == NO_DETECTION))
    rows = rows.take(np.flatnonzero(rows.detections != NO_DETECTION))
    rows = rows.joined(_missing(rows, times, config.max_gap_s)).sorted()
    if config.smoothing_s:
        rows = replace(rows, boxes=_smoothed(rows, times, config.smoothing_s))
    there, filled = (one.identities * len(frames) + one.frames for one in (predicted, rows))
    rows = rows.joined(predicted.take(np.flatnonzero(~np.isin(there, filled))))
    return rows.split(frames)


def _missing(rows: Rows, times: NDArray[np.float64], max_gap_s: float) -> Rows:
    """Return the rows between two sightings of an identity."""
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
    """Return boxes on lines that are fitted around each with Gaussian weights, each stretch without a gap by itself."""
    boxes: FloatArray = rows.boxes.copy()
    breaks = np.flatnonzero((np.diff(rows.frames) != 1) | (np.diff(rows.identities) != 0)) + 1
    for stretch in np.split(np.arange(len(rows.frames)), breaks):
        path, when = rows.boxes[stretch].astype(np.float64), times[rows.frames[stretch]]
        smooth = _local_lines(path, when, smoothing_s)
        whole = (smooth[:, 2:] > smooth[:, :2]).all(axis=1)  # a line may run below nothing where sizes jump
        boxes[stretch[whole]] = smooth[whole]
    return boxes


def _local_lines(path: NDArray[np.float64], when: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    """Fit a line around each point, nearer ones counting more, and return its value there."""
    count = len(path)
    weight, first, second = np.ones(count), np.zeros(count), np.zeros(count)
    value, moment = path.copy(), np.zeros_like(path)
    for offset in range(1, count):
        span = when[offset:] - when[:-offset]
        if span.min() > _REACH * deviation:
            break
        near = np.exp(-0.5 * np.square(span / deviation))
        for target, source, distance in (
            (slice(None, -offset), slice(offset, None), span),
            (slice(offset, None), slice(None, -offset), -span),
        ):
            weight[target] += near
            first[target] += near * distance
            second[target] += near * distance**2
            value[target] += near[:, None] * path[source]
            moment[target] += (near * distance)[:, None] * path[source]
    determinant = weight * second - first**2
    lines = (second[:, None] * value - first[:, None] * moment) / np.where(determinant > 0, determinant, 1)[:, None]
    return np.asarray(np.where((determinant > 0)[:, None], lines, path))

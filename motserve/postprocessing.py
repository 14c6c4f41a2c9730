"""What can be done with the tracks of a whole file once its end is known: gaps filled, boxes smoothed.

Reference: Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023, whose
Gaussian-smoothed interpolation fits a process to each track; here lines are fitted with Gaussian weights around each
box, which leaves a constant speed as it is at any frame rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from motserve.config import InterpolationConfig
from motserve.tracking.time import TOLERANCE_S
from motserve.types import INTERPOLATED, NO_DETECTION, FloatArray, IntArray, TrackedFrame, Tracks

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
    rows = _Rows.of(frames)
    times = np.array([frame.timestamp for frame in frames])
    predicted = rows.take(np.flatnonzero(rows.detections == NO_DETECTION))
    rows = rows.take(np.flatnonzero(rows.detections != NO_DETECTION))
    rows = rows.joined(_missing(rows, times, config.max_gap_s)).sorted()
    if config.smoothing_s:
        rows = replace(rows, boxes=_smoothed(rows, times, config.smoothing_s))
    there, filled = (one.identities * len(frames) + one.frames for one in (predicted, rows))
    rows = rows.joined(predicted.take(np.flatnonzero(~np.isin(there, filled))))
    order = np.lexsort((rows.ids, rows.frames))
    ends = np.searchsorted(rows.frames[order], np.arange(1, len(frames)))
    return [rows.frame(frame, part) for frame, part in zip(frames, np.split(order, ends), strict=True)]


@dataclass(frozen=True)
class _Rows:
    """Every row of a video, sorted by identity and frame."""

    frames: IntArray
    """Place of the frame among the frames."""
    identities: IntArray
    ids: IntArray
    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    detections: IntArray

    @classmethod
    def of(cls, frames: Sequence[TrackedFrame]) -> _Rows:
        tracks = [frame.tracks for frame in frames]
        rows = cls(
            np.repeat(np.arange(len(frames)), [len(one) for one in tracks]),
            np.concatenate([np.empty(0, np.int64), *(frame.identities for frame in frames)]),
            np.concatenate([np.empty(0, np.int64), *(one.ids for one in tracks)]),
            np.concatenate([np.empty((0, 4), np.float32), *(one.boxes for one in tracks)]),
            np.concatenate([np.empty(0, np.float32), *(one.scores for one in tracks)]),
            np.concatenate([np.empty(0, np.int64), *(one.classes for one in tracks)]),
            np.concatenate([np.empty(0, np.int64), *(one.detections for one in tracks)]),
        )
        return rows.sorted()

    def sorted(self) -> _Rows:
        return self.take(np.lexsort((self.frames, self.identities)))

    def take(self, chosen: IntArray) -> _Rows:
        return _Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def joined(self, other: _Rows) -> _Rows:
        return _Rows(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__dataclass_fields__)
        )

    def frame(self, frame: TrackedFrame, part: IntArray) -> TrackedFrame:
        mine = self.take(part)
        tracks = Tracks(mine.ids, mine.boxes, mine.scores, mine.classes, mine.detections)
        return TrackedFrame(frame.index, frame.timestamp, tracks, mine.identities)


def _missing(rows: _Rows, times: NDArray[np.float64], max_gap_s: float) -> _Rows:
    """Return the rows between two sightings of an identity."""
    before, after = rows.frames[:-1], rows.frames[1:]
    same = rows.identities[1:] == rows.identities[:-1]
    starts = np.flatnonzero(same & (after - before > 1) & (times[after] - times[before] <= max_gap_s + TOLERANCE_S))
    count = after[starts] - before[starts] - 1
    start = np.repeat(starts, count)
    frames = before[start] + 1 + np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    share = (times[frames] - times[before[start]]) / (times[after[start]] - times[before[start]])
    boxes = rows.boxes[start] + share[:, None] * (rows.boxes[start + 1] - rows.boxes[start])
    return _Rows(
        frames,
        rows.identities[start],
        rows.ids[start],
        boxes.astype(np.float32),
        np.minimum(rows.scores[start], rows.scores[start + 1]),
        rows.classes[start],
        np.full(len(start), INTERPOLATED),
    )


def _smoothed(rows: _Rows, times: NDArray[np.float64], smoothing_s: float) -> FloatArray:
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

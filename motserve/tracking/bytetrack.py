"""ByteTrack: every detection is associated, the confident ones first, then the others.

Reference: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022. The rules,
including births, lost tracks and duplicates, are those of the implementation in Ultralytics; time is in seconds
instead of frames. At timestamps k / `reference_rate_hz` both give the same tracks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from motserve.base import TrackerBase
from motserve.config import TrackerConfig
from motserve.tracking.association import find_candidates, match
from motserve.tracking.boxes import overlapping_pairs
from motserve.tracking.kalman import HEIGHT_VELOCITY, KalmanFilter, to_boxes
from motserve.tracking.observations import Observations, observe
from motserve.tracking.table import TrackTable
from motserve.types import BoolArray, Detections, FloatArray, IntArray, Tracks

# Containers round timestamps, Matroska to a millisecond; a span of time may be off by that much at each end.
_TIME_TOLERANCE_S = 2e-3
# A whole number of steps comes out of k / 30 only up to rounding; snapping it keeps the filter on the reference.
_STEP_DECIMALS = 6
# The rate of the videos that the reference's noises were chosen on, for sources that do not know theirs.
_FALLBACK_RATE_HZ = 30.0
# Containers without a real rate declare their clock's, thousands of Hz.
_USABLE_RATES_HZ = (0.5, 480.0)


class ByteTrack(TrackerBase):
    """Follows objects through the frames of one video by motion and IoU.

    A track is born from an unmatched detection of at least `new_track_confidence`. In the first frame it is
    confirmed at once; later it must be matched by a confident detection in the very next frame, or it is removed.
    A confirmed track that is not matched is lost; it moves on and can be found again by a confident detection until
    it was lost for longer than `lost_buffer_s`. Detections must score above `low_confidence` to count.

    IDs start at 1 in each object and are never reused. The result does not depend on the order of the detections.

    Args:
        config: Thresholds, buffer and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known. It only says how long a step of
            the motion model is, where `reference_rate_hz` does not; time comes from the timestamps.
    """

    def __init__(self, config: TrackerConfig, rate_hz: float | None = None) -> None:
        self._config = config
        self._steps_per_s = config.kalman.reference_rate_hz or _usable(rate_hz)
        self._kalman = KalmanFilter(config.kalman)
        self._table = TrackTable.empty()
        self._timestamp: float | None = None
        self._next_id = 1

    def update(self, detections: Detections, timestamp: float) -> Tracks:
        """Advance by one frame. An empty frame is a frame: call this for it too.

        Consecutive frames are always compared, however far apart they are. A refused call changes nothing.

        Args:
            detections: What was seen in the frame, low scores included.
            timestamp: Presentation time in seconds, greater than that of the frame before.

        Returns:
            The confirmed tracks that were matched in this frame, by rising ID.

        Raises:
            ValueError: The timestamp is not finite or does not increase, a score is not a number in [0, 1], or a
                box above `low_confidence` is not finite or has no area.
        """
        config, table = self._config, self._table
        steps = self._steps_to(timestamp)
        seen = observe(detections, config.low_confidence, config.high_confidence)

        self._kalman.predict(table.motion[:, : table.confirmed], steps)
        found, unmatched = self._associate(seen)
        kept = self._correct(seen, found, timestamp)
        if np.count_nonzero(kept) < kept.size:
            table.keep(kept)
            found = found[kept]
        born = unmatched[seen.scores.take(unmatched) >= config.new_track_confidence]
        self._give_birth(seen, born, timestamp)
        if born.size:
            found = np.concatenate([found, born])
        boxes = to_boxes(table.motion)
        duplicate = self._duplicates(boxes, timestamp)
        if duplicate is not None:
            table.keep(~duplicate)
            found, boxes = found[~duplicate], boxes[:, ~duplicate]
        self._timestamp = timestamp

        shown = (~table.lost[: table.confirmed]).nonzero()[0]
        found = found.take(shown)
        return Tracks(
            ids=table.ids.take(shown),
            boxes=boxes.T.take(shown, axis=0),
            scores=seen.scores.take(found),
            classes=seen.classes.take(found),
            detections=seen.rows.take(found),
        )

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        timestamp = math.nan if self._timestamp is None else self._timestamp
        return {
            **self._table.to_arrays(),
            "timestamp": np.array(timestamp, np.float64),
            "next_id": np.array(self._next_id, np.int64),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Args:
            state: The arrays; they are copied.

        Raises:
            ValueError: An array is missing or has another shape or type. The state is as it was.
        """
        missing = {"timestamp", "next_id"} - set(state)
        if missing:
            raise ValueError(f"state has no {sorted(missing)}; it was not written by this tracker")
        table = TrackTable.from_arrays(state)
        timestamp, next_id = np.asarray(state["timestamp"]).item(), np.asarray(state["next_id"]).item()
        self._table = table
        self._timestamp = None if math.isnan(timestamp) else float(timestamp)
        self._next_id = int(next_id)

    def _steps_to(self, timestamp: float) -> float:
        """Return the reference frames from the latest frame to `timestamp`; refuse a time that does not increase."""
        if not math.isfinite(timestamp):
            raise ValueError(f"timestamp is {timestamp}; it must be a finite number of seconds")
        if self._timestamp is None:
            return 1.0
        if timestamp <= self._timestamp:
            raise ValueError(f"timestamp {timestamp} s does not come after the frame before, {self._timestamp} s")
        return round((timestamp - self._timestamp) * self._steps_per_s, _STEP_DECIMALS)

    def _associate(self, seen: Observations) -> tuple[IntArray, IntArray]:
        """Run the three associations.

        Returns:
            For each track the column of its observation or -1; and the columns of the high observations left over.
        """
        config, table = self._config, self._table
        high, confirmed = seen.high, table.confirmed
        found = np.full(len(table), -1)
        free = np.ones(seen.rows.size, np.bool_)
        widest = max(config.match_distance, config.second_match_distance, config.unconfirmed_match_distance)
        pairs = find_candidates(to_boxes(table.motion), seen.boxes, widest)
        is_confirmed, is_high = pairs.rows < confirmed, pairs.columns < high
        scores = seen.scores if config.fuse_score else None

        rows, columns = match(pairs.select(is_confirmed & is_high), config.match_distance, scores)
        found[rows] = columns
        free[columns] = False

        if high < seen.rows.size and rows.size < confirmed:
            waiting = (found < 0) & ~table.lost
            second = pairs.select(is_confirmed & ~is_high & waiting.take(pairs.rows))
            rows, columns = match(second, config.second_match_distance)
            found[rows] = columns

        if confirmed < len(table):
            third = pairs.select(~is_confirmed & is_high & free.take(pairs.columns))
            rows, columns = match(third, config.unconfirmed_match_distance, scores)
            found[rows] = columns
            free[columns] = False
        return found, free[:high].nonzero()[0]

    def _correct(self, seen: Observations, found: IntArray, timestamp: float) -> BoolArray:
        """Correct the matched tracks, mark the others as lost or expired, and return which tracks stay."""
        table = self._table
        hit = found >= 0
        missed = ~hit
        if seen.rows.size:
            self._kalman.update(table.motion, seen.measurements.take(found, axis=1), hit)
        # The height of a lost track stays: an old trend would blow it up or shrink it away.
        table.motion[HEIGHT_VELOCITY] *= hit
        np.copyto(table.seen[1], timestamp, where=hit)
        kept = hit | ~table.expired
        kept[table.confirmed :] = hit[table.confirmed :]
        # A track that was lost in this very frame gets another, however long the frame took to come.
        overdue = timestamp - table.seen[1] > self._config.lost_buffer_s + _TIME_TOLERANCE_S
        table.expired |= overdue & table.lost
        table.lost = missed
        return kept

    def _give_birth(self, seen: Observations, born: IntArray, timestamp: float) -> None:
        """Start a track from each of the columns `born`."""
        table = self._table
        table.confirmed = len(table)
        if born.size:
            ids = np.arange(self._next_id, self._next_id + born.size)
            table.append(ids, self._kalman.initiate(seen.measurements.take(born, axis=1)), timestamp)
            self._next_id += born.size
        if self._timestamp is None:
            table.confirmed = len(table)

    def _duplicates(self, boxes: FloatArray, timestamp: float) -> BoolArray | None:
        """Mark the younger of each tracked and lost track that lie on each other, the tracked one when of an age.

        Returns:
            True for the tracks to drop, or None where there are none.
        """
        table, least = self._table, self._config.duplicate_iou
        lost = table.lost.nonzero()[0]
        if lost.size == 0 or lost.size == len(table):
            return None
        tracked = (~table.lost).nonzero()[0]
        rows, columns, iou = overlapping_pairs(boxes.take(tracked, axis=1), boxes.take(lost, axis=1), least)
        same = (1 - iou < 1 - least).nonzero()[0]
        if same.size == 0:
            return None
        tracked, lost = tracked[rows[same]], lost[columns[same]]
        first, last = table.seen
        older = timestamp - first[tracked] > last[lost] - first[lost] + _TIME_TOLERANCE_S
        duplicate = np.zeros(len(table), np.bool_)
        duplicate[lost[older]] = True
        duplicate[tracked[~older]] = True
        return duplicate


def _usable(rate_hz: float | None) -> float:
    low, high = _USABLE_RATES_HZ
    return rate_hz if rate_hz is not None and low <= rate_hz <= high else _FALLBACK_RATE_HZ

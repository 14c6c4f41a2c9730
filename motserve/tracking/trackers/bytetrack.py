"""ByteTrack: every detection is associated, the confident ones first, then the others.

Reference: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022. The rules,
including births, lost tracks and duplicates, are those of the implementation in Ultralytics; time is in seconds
instead of frames. At timestamps k / `reference_rate_hz` both give the same tracks, with what is added here switched
off: thresholds that follow the detector's level, a recovery with enlarged boxes, boxes nearer to the detection, and
time that passes for unconfirmed tracks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.base import NO_CUES, TrackerBase
from motserve.config import CascadeConfig, KalmanConfig
from motserve.tracking.association import Candidates, find_candidates, match
from motserve.tracking.boxes import overlapping_pairs
from motserve.tracking.buffered_iou import recover
from motserve.tracking.confidence_scaling import ConfidenceLevel
from motserve.tracking.kalman import KalmanFilter
from motserve.tracking.motion import AspectFilter
from motserve.tracking.observations import Observations, observe
from motserve.tracking.state import restored, saved
from motserve.tracking.table import TrackTable
from motserve.tracking.time import TOLERANCE_S, steps_between, usable_rate_hz
from motserve.types import NO_DETECTION, BoolArray, Cues, Detections, FloatArray, IntArray, Tracks


class ByteTrack(TrackerBase):
    """Follows objects through the frames of one video by motion and IoU.

    A track is born from an unmatched detection of at least `new_track_confidence`. In the first frame it is
    confirmed at once; later it must be matched by a confident detection in the very next frame, or it is removed.
    A confirmed track that is not matched is lost; it moves on and can be found again by a confident detection until
    it was lost for longer than `lost_buffer_s`. Detections must score above `low_confidence` to count. What is left
    over of tracks and confident detections is then tried once more with enlarged boxes (`recovery`).

    IDs start at 1 in each object and are never reused. The result does not depend on the order of the detections.

    Args:
        config: Thresholds, buffer and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known. It only says how long a step of
            the motion model is, where `reference_rate_hz` does not; time comes from the timestamps.
    """

    _uses_unsure = True
    """Whether detections below the higher threshold have an association of their own."""

    _recalls = False
    """Whether `_match_again` is asked."""

    _moves_along = True
    """Whether tracks are moved along with the camera."""

    def __init__(self, config: CascadeConfig, rate_hz: float | None = None) -> None:
        self._config = config
        self._steps_per_s = config.kalman.reference_rate_hz or usable_rate_hz(rate_hz)
        self._kalman = self._motion_model(config.kalman)
        self._table = TrackTable.empty(self._kalman.rows, self._remembered())
        self._level = ConfidenceLevel(config.level) if config.level else None
        self._timestamp: float | None = None
        self._next_id = 1

    def update(self, detections: Detections, timestamp: float, cues: Cues = NO_CUES) -> Tracks:
        """Advance by one frame. An empty frame is a frame: call this for it too.

        Consecutive frames are always compared, however far apart they are. A refused call changes nothing.

        Args:
            detections: What was seen in the frame, low scores included.
            timestamp: Presentation time in seconds, greater than that of the frame before.
            cues: The camera's motion, where it is known, and embeddings of the rows that `wants` named.

        Returns:
            The confirmed tracks that were matched in this frame, and others as `report_lost_s` and
            `report_unconfirmed` ask for, by rising ID.

        Raises:
            ValueError: The timestamp is not finite or does not increase, a score is not a number in [0, 1], or a
                box above `low_confidence` is not finite or has no area.
        """
        config, table = self._config, self._table
        steps = steps_between(self._timestamp, timestamp, self._steps_per_s)
        seen = observe(detections, config.low_confidence, cues)
        measured = self._kalman.measure(seen.centre, seen.size)
        scale = self._observe_level(seen, timestamp)

        among = len(table) if config.predict_unconfirmed else table.confirmed
        self._kalman.predict(table.motion[:, :among], steps)
        if cues.camera is not None and self._moves_along:
            self._kalman.warp(table.motion, cues.camera)
        found, unmatched = self._associate(seen, seen.from_score(config.high_confidence * scale), timestamp)
        kept = self._correct(seen, measured, found, timestamp)
        if np.count_nonzero(kept) < kept.size:
            table.keep(kept)
            found = found[kept]
        born = unmatched[seen.scores.take(unmatched) >= config.new_track_confidence * scale]
        self._give_birth(seen, measured, born, timestamp)
        if born.size:
            found = np.concatenate([found, born])
        boxes = self._kalman.boxes(table.motion)
        duplicate = self._duplicates(boxes, timestamp)
        if duplicate is not None:
            table.keep(~duplicate)
            found, boxes = found[~duplicate], boxes[:, ~duplicate]
        self._timestamp = timestamp

        shown = self._shown(timestamp)
        found = found.take(shown)
        answer = boxes.T.take(shown, axis=0)
        if config.report_lost_s and (found < 0).any():
            return self._with_predicted(seen, shown, found, answer)
        if config.detection_weight:
            answer += np.float32(config.detection_weight) * (seen.boxes.T.take(found, axis=0) - answer)
        return Tracks(
            ids=table.ids.take(shown),
            boxes=answer,
            scores=seen.scores.take(found),
            classes=table.labels.take(shown),
            detections=seen.rows.take(found),
        )

    def _shown(self, timestamp: float) -> IntArray:
        """Return the columns of the tracks that are reported."""
        config, table = self._config, self._table
        among = len(table) if config.report_unconfirmed else table.confirmed
        hidden = table.lost[:among]
        if config.report_lost_s:
            hidden = hidden & (timestamp - table.seen[1, :among] > config.report_lost_s + TOLERANCE_S)
        return (~hidden).nonzero()[0]

    def _with_predicted(self, seen: Observations, shown: IntArray, found: IntArray, boxes: FloatArray) -> Tracks:
        """Return tracks of which some have no detection in this frame."""
        config, table = self._config, self._table
        real = found >= 0
        scores = np.zeros(len(shown), np.float32)
        detections = np.full(len(shown), NO_DETECTION)
        taken = found[real]
        boxes[real] += np.float32(config.detection_weight) * (seen.boxes.T[taken] - boxes[real])
        scores[real], detections[real] = seen.scores[taken], seen.rows[taken]
        return Tracks(table.ids.take(shown), boxes, scores, table.labels.take(shown), detections)

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        state = saved(self, self._table, self._timestamp, next_id=self._next_id)
        return {**state, "level": np.array(self._level.sums)} if self._level else state

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Args:
            state: The arrays; they are copied.

        Raises:
            ValueError: An array is missing or has another shape or type. The state is as it was.
        """
        table, timestamp, (next_id,) = restored(state, self, self._renewed, "next_id")
        if self._level:
            if "level" not in state:
                raise ValueError("state has no 'level'; it was not written by this tracker")
            weighted, weights = np.asarray(state["level"], np.float64).tolist()
            self._level.sums = weighted, weights
        self._table, self._timestamp, self._next_id = table, timestamp, next_id

    def _observe_level(self, seen: Observations, timestamp: float) -> float:
        """Take in the confidences of a frame and return what thresholds are multiplied by."""
        if self._level is None:
            return 1.0
        self._level.observe(seen.scores, 0.0 if self._timestamp is None else timestamp - self._timestamp)
        return self._level.scale

    def _associate(self, seen: Observations, high: int, timestamp: float) -> tuple[IntArray, IntArray]:
        """Run the associations.

        Args:
            seen: The frame's observations.
            high: How many of them are confident.
            timestamp: Time of the frame in seconds.

        Returns:
            For each track the column of its observation or -1; and the columns of the high observations left over.
        """
        config, table = self._config, self._table
        confirmed = table.confirmed
        found = np.full(len(table), -1)
        free = np.ones(len(seen), np.bool_)
        widest = max(config.match_distance, config.second_match_distance, config.unconfirmed_match_distance)
        boxes = self._kalman.boxes(table.motion)
        pairs = find_candidates(boxes, seen.boxes, widest)
        if config.class_aware:
            pairs = pairs.select(table.labels.take(pairs.rows) == seen.classes.take(pairs.columns))
        is_confirmed, is_high = pairs.rows < confirmed, pairs.columns < high
        scores = seen.scores if config.fuse_score else None

        rows, columns = self._match_first(pairs.select(is_confirmed & is_high), seen, scores)
        found[rows] = columns
        free[columns] = False
        if self._recalls:
            rows, columns = self._match_again(found[:confirmed], free[:high], seen)
            found[rows] = columns
            free[columns] = False

        if self._uses_unsure and high < len(seen) and rows.size < confirmed:
            waiting = (found < 0) & ~table.lost
            second = pairs.select(is_confirmed & ~is_high & waiting.take(pairs.rows))
            rows, columns = match(second, config.second_match_distance)
            found[rows] = columns

        if confirmed < len(table):
            third = pairs.select(~is_confirmed & is_high & free.take(pairs.columns))
            rows, columns = match(third, config.unconfirmed_match_distance, scores)
            found[rows] = columns
            free[columns] = False
        left = free[:high].nonzero()[0]
        if config.recovery and left.size:
            lone = (found < 0).nonzero()[0]
            if lone.size:
                since = timestamp - table.seen[1].take(lone)
                alike = table.labels.take(lone)[:, None] == seen.classes.take(left) if config.class_aware else None
                rows, columns = recover(
                    boxes.take(lone, axis=1), since, seen.boxes.take(left, axis=1), config.recovery, alike
                )
                found[lone.take(rows)] = left.take(columns)
                free[left.take(columns)] = False
                left = free[:high].nonzero()[0]
        return found, left

    def _match_first(
        self, pairs: Candidates, seen: Observations, scores: FloatArray | None
    ) -> tuple[IntArray, IntArray]:
        """Match confirmed tracks with confident observations.

        Args:
            pairs: Those that are close enough.
            seen: The frame's observations.
            scores: Confidences to fuse, if any.

        Returns:
            Column of the track and column of the observation of each match, `(j,)` int64 each.
        """
        return match(pairs, self._config.match_distance, scores)

    def _match_again(self, found: IntArray, free: BoolArray, seen: Observations) -> tuple[IntArray, IntArray]:
        """Match what the first association left over of confirmed tracks and confident observations.

        Args:
            found: For each confirmed track the column of its observation or -1.
            free: For each confident observation whether it is left over.
            seen: The frame's observations.

        Returns:
            Column of the track and column of the observation of each match, `(j,)` int64 each.
        """
        raise NotImplementedError

    def _renewed(self, state: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        """Return the table of a state."""
        return self._table.renewed(state)

    def _motion_model(self, config: KalmanConfig) -> KalmanFilter:
        return AspectFilter(config)

    def _remembered(self) -> dict[str, NDArray[Any]]:
        """Return what else is remembered of each track, as arrays without a track."""
        return {}

    def _correct(self, seen: Observations, measured: FloatArray, found: IntArray, timestamp: float) -> BoolArray:
        """Correct the matched tracks, mark the others as lost or expired, and return which tracks stay."""
        table = self._table
        hit = found >= 0
        missed = ~hit
        if len(seen):
            self._kalman.update(table.motion, measured.take(found, axis=1), hit)
            table.label(hit, seen.classes.take(found), seen.scores.take(found), self._config.class_vote)
        # The height of a lost track stays: an old trend would blow it up or shrink it away.
        table.motion[self._kalman.size_velocity] *= hit
        np.copyto(table.seen[1], timestamp, where=hit)
        kept = hit | ~table.expired
        kept[table.confirmed :] = hit[table.confirmed :]
        # A track that was lost in this very frame gets another, however long the frame took to come.
        overdue = timestamp - table.seen[1] > self._config.lost_buffer_s + TOLERANCE_S
        table.expired |= overdue & table.lost
        table.lost = missed
        return kept

    def _give_birth(self, seen: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        """Start a track from each of the columns `born`."""
        table = self._table
        table.confirmed = len(table)
        if born.size:
            ids = np.arange(self._next_id, self._next_id + born.size)
            motion = self._kalman.initiate(measured.take(born, axis=1))
            table.append(ids, motion, timestamp, seen.classes.take(born), seen.scores.take(born))
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
        is_same = 1 - iou < 1 - least
        if self._config.class_aware:
            is_same &= table.labels.take(tracked.take(rows)) == table.labels.take(lost.take(columns))
        same = is_same.nonzero()[0]
        if same.size == 0:
            return None
        tracked, lost = tracked[rows[same]], lost[columns[same]]
        first, last = table.seen
        older = timestamp - first[tracked] > last[lost] - first[lost] + TOLERANCE_S
        duplicate = np.zeros(len(table), np.bool_)
        duplicate[lost[older]] = True
        duplicate[tracked[~older]] = True
        return duplicate

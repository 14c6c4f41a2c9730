"""ByteTrack: every detection is associated, the confident ones first, then the others.

Reference: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022. The rules,
including births, lost tracks and duplicates, are those of the implementation in Ultralytics; time is in seconds
instead of frames. At timestamps k / `reference_rate_hz` both give the same tracks when the additions of this
implementation are off: thresholds scaled to the detector's confidence, a last association by buffered IoU, boxes
nearer to the detection, and motion prediction of unconfirmed tracks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.base import NO_CUES, TrackerBase
from motserve.config import CascadeConfig, KalmanConfig
from motserve.tracking.association import Candidates, find_candidates, match
from motserve.tracking.buffered_iou import match_buffered
from motserve.tracking.confidence_scaling import ConfidenceScaling
from motserve.tracking.duplicates import find_duplicates
from motserve.tracking.kalman import KalmanFilter
from motserve.tracking.motion import AspectFilter
from motserve.tracking.observations import Observations, observe
from motserve.tracking.saved_state import restore_state, save_state
from motserve.tracking.time import TOLERANCE_S, steps_between, usable_rate_hz
from motserve.tracking.track_table import TrackTable
from motserve.types import NO_DETECTION, BoolArray, Cues, Detections, FloatArray, IntArray, Tracks


class ByteTrack(TrackerBase):
    """Tracks objects through the frames of one video by motion and IoU.

    A track is born from an unmatched detection of at least `new_track_confidence`. In the first frame it is
    confirmed at once; later it must be matched by a confident detection in the very next frame, or it is removed.
    A confirmed track that is not matched is lost; it is still predicted and can be matched again by a confident
    detection until it has been lost for longer than `lost_buffer_s`. Detections with a score of `low_confidence` or
    less are ignored. Remaining tracks and confident detections are finally matched by `buffered_iou`.

    IDs start at 1 in each tracker and are never reused. The result does not depend on the order of the detections.

    Args:
        config: Thresholds, buffer and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known. It only sets the length of a step
            of the motion model where `reference_rate_hz` does not; time comes from the timestamps.
    """

    _uses_low_scores = True
    """Whether there is a second association with the detections below the higher threshold."""

    _matches_twice = False
    """Whether `_match_second_time` is called."""

    _compensates_camera = True
    """Whether predictions are corrected for camera motion."""

    def __init__(self, config: CascadeConfig, rate_hz: float | None = None) -> None:
        self._config = config
        self._steps_per_s = config.kalman.reference_rate_hz or usable_rate_hz(rate_hz)
        self._kalman = self._motion_model(config.kalman)
        self._table = TrackTable.empty(self._kalman.rows, self._extra_columns())
        self._confidence_scaling = ConfidenceScaling(config.confidence_scaling) if config.confidence_scaling else None
        self._timestamp: float | None = None
        self._next_id = 1

    def update(self, detections: Detections, timestamp: float, cues: Cues = NO_CUES) -> Tracks:
        """Advance by one frame. An empty frame is a frame: call this for it too.

        Consecutive frames are always associated, however far apart they are. A call that raises changes nothing.

        Args:
            detections: Detections of the frame, low scores included.
            timestamp: Presentation time in seconds, greater than that of the previous frame.
            cues: The camera's motion, where it is known, and embeddings of the rows that `rows_to_embed` returned.

        Returns:
            The confirmed tracks that were matched in this frame, and those that `report_lost_s` and
            `report_unconfirmed` add, by rising ID.

        Raises:
            ValueError: The timestamp is not finite or does not increase, a score is not a number in [0, 1], or a
                box above `low_confidence` is not finite or has no area.
        """
        config, table = self._config, self._table
        steps = steps_between(self._timestamp, timestamp, self._steps_per_s)
        observations = observe(detections, config.low_confidence, cues)
        measured = self._kalman.measure(observations.centre, observations.size)
        scale = self._threshold_scale(observations, timestamp)

        count = len(table) if config.predict_unconfirmed else table.confirmed
        self._kalman.predict(table.motion[:, :count], steps)
        if cues.camera is not None and self._compensates_camera:
            self._kalman.warp(table.motion, cues.camera)
        assigned, unmatched = self._associate(
            observations, observations.from_score(config.high_confidence * scale), timestamp
        )
        keep_mask = self._correct(observations, measured, assigned, timestamp)
        if np.count_nonzero(keep_mask) < keep_mask.size:
            table.keep(keep_mask)
            assigned = assigned[keep_mask]
        born = unmatched[observations.scores.take(unmatched) >= config.new_track_confidence * scale]
        self._start_tracks(observations, measured, born, timestamp)
        if born.size:
            assigned = np.concatenate([assigned, born])
        boxes = self._kalman.boxes(table.motion)
        duplicate = find_duplicates(table, boxes, timestamp, config.duplicate_iou, config.class_aware)
        if duplicate is not None:
            table.keep(~duplicate)
            assigned, boxes = assigned[~duplicate], boxes[:, ~duplicate]
        self._timestamp = timestamp

        reported = self._reported(timestamp)
        assigned = assigned.take(reported)
        answer = boxes.T.take(reported, axis=0)
        if config.report_lost_s and (assigned < 0).any():
            return self._with_predicted(observations, reported, assigned, answer)
        if config.detection_weight:
            answer += np.float32(config.detection_weight) * (observations.boxes.T.take(assigned, axis=0) - answer)
        return Tracks(
            ids=table.ids.take(reported),
            boxes=answer,
            scores=observations.scores.take(assigned),
            classes=table.labels.take(reported),
            detections=observations.rows.take(assigned),
        )

    def _reported(self, timestamp: float) -> IntArray:
        """Return the columns of the tracks that are reported."""
        config, table = self._config, self._table
        count = len(table) if config.report_unconfirmed else table.confirmed
        unreported = table.lost[:count]
        if config.report_lost_s:
            unreported = unreported & (timestamp - table.matched_at[1, :count] > config.report_lost_s + TOLERANCE_S)
        return (~unreported).nonzero()[0]

    def _with_predicted(
        self, observations: Observations, reported: IntArray, assigned: IntArray, boxes: FloatArray
    ) -> Tracks:
        """Return tracks of which some have no detection in this frame."""
        config, table = self._config, self._table
        real = assigned >= 0
        scores = np.zeros(len(reported), np.float32)
        detections = np.full(len(reported), NO_DETECTION)
        assigned_columns = assigned[real]
        boxes[real] += np.float32(config.detection_weight) * (observations.boxes.T[assigned_columns] - boxes[real])
        scores[real], detections[real] = observations.scores[assigned_columns], observations.rows[assigned_columns]
        return Tracks(table.ids.take(reported), boxes, scores, table.labels.take(reported), detections)

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        state = save_state(self, self._table, self._timestamp, next_id=self._next_id)
        return (
            {**state, "confidence_scaling": np.array(self._confidence_scaling.sums)}
            if self._confidence_scaling
            else state
        )

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Args:
            state: The arrays; they are copied.

        Raises:
            ValueError: An array is missing or has another shape or type. The state is unchanged.
        """
        table, timestamp, (next_id,) = restore_state(state, self, self._table_of, "next_id")
        if self._confidence_scaling:
            if "confidence_scaling" not in state:
                raise ValueError("state has no 'confidence_scaling'; it was not written by this tracker")
            weighted, weights = np.asarray(state["confidence_scaling"], np.float64).tolist()
            self._confidence_scaling.sums = weighted, weights
        self._table, self._timestamp, self._next_id = table, timestamp, next_id

    def _threshold_scale(self, observations: Observations, timestamp: float) -> float:
        """Update the mean confidence with those of a frame and return the factor for thresholds."""
        if self._confidence_scaling is None:
            return 1.0
        self._confidence_scaling.observe(
            observations.scores, 0.0 if self._timestamp is None else timestamp - self._timestamp
        )
        return self._confidence_scaling.scale

    def _associate(self, observations: Observations, high: int, timestamp: float) -> tuple[IntArray, IntArray]:
        """Run the associations.

        Args:
            observations: The frame's observations.
            high: How many of them are confident.
            timestamp: Time of the frame in seconds.

        Returns:
            For each track the column of its observation or -1; and the columns of the unmatched confident observations.
        """
        config, table = self._config, self._table
        confirmed = table.confirmed
        assigned = np.full(len(table), -1)
        free = np.ones(len(observations), np.bool_)
        widest = max(config.match_distance, config.second_match_distance, config.unconfirmed_match_distance)
        boxes = self._kalman.boxes(table.motion)
        pairs = find_candidates(boxes, observations.boxes, widest)
        if config.class_aware:
            pairs = pairs.select(table.labels.take(pairs.rows) == observations.classes.take(pairs.columns))
        is_confirmed, is_high = pairs.rows < confirmed, pairs.columns < high
        scores = observations.scores if config.fuse_score else None

        rows, columns = self._match_first(pairs.select(is_confirmed & is_high), observations, scores)
        assigned[rows] = columns
        free[columns] = False
        if self._matches_twice:
            rows, columns = self._match_second_time(assigned[:confirmed], free[:high], observations)
            assigned[rows] = columns
            free[columns] = False

        if self._uses_low_scores and high < len(observations) and rows.size < confirmed:
            tracked = (assigned < 0) & ~table.lost
            second = pairs.select(is_confirmed & ~is_high & tracked.take(pairs.rows))
            rows, columns = match(second, config.second_match_distance)
            assigned[rows] = columns

        if confirmed < len(table):
            third = pairs.select(~is_confirmed & is_high & free.take(pairs.columns))
            rows, columns = match(third, config.unconfirmed_match_distance, scores)
            assigned[rows] = columns
            free[columns] = False
        remaining = free[:high].nonzero()[0]
        if config.buffered_iou and remaining.size:
            unmatched_tracks = (assigned < 0).nonzero()[0]
            if unmatched_tracks.size:
                since = timestamp - table.matched_at[1].take(unmatched_tracks)
                same_class = (
                    table.labels.take(unmatched_tracks)[:, None] == observations.classes.take(remaining)
                    if config.class_aware
                    else None
                )
                rows, columns = match_buffered(
                    boxes.take(unmatched_tracks, axis=1),
                    since,
                    observations.boxes.take(remaining, axis=1),
                    config.buffered_iou,
                    same_class,
                )
                assigned[unmatched_tracks.take(rows)] = remaining.take(columns)
                free[remaining.take(columns)] = False
                remaining = free[:high].nonzero()[0]
        return assigned, remaining

    def _match_first(
        self, pairs: Candidates, observations: Observations, scores: FloatArray | None
    ) -> tuple[IntArray, IntArray]:
        """Match confirmed tracks with confident observations.

        Args:
            pairs: Pairs that are close enough.
            observations: The frame's observations.
            scores: Confidences to fuse, if any.

        Returns:
            Column of the track and column of the observation of each match, `(j,)` int64 each.
        """
        return match(pairs, self._config.match_distance, scores)

    def _match_second_time(
        self, assigned: IntArray, free: BoolArray, observations: Observations
    ) -> tuple[IntArray, IntArray]:
        """Match the confirmed tracks and confident observations that the first association left unmatched.

        Args:
            assigned: For each confirmed track the column of its observation or -1.
            free: For each confident observation whether it is unmatched.
            observations: The frame's observations.

        Returns:
            Column of the track and column of the observation of each match, `(j,)` int64 each.
        """
        raise NotImplementedError

    def _table_of(self, state: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        """Return the table of a state."""
        return self._table.restored(state)

    def _motion_model(self, config: KalmanConfig) -> KalmanFilter:
        return AspectFilter(config)

    def _extra_columns(self) -> dict[str, NDArray[Any]]:
        """Return the tracker's further columns of the table, as arrays without a track."""
        return {}

    def _correct(
        self, observations: Observations, measured: FloatArray, assigned: IntArray, timestamp: float
    ) -> BoolArray:
        """Correct the matched tracks, mark the others as lost or expired, and return which tracks stay."""
        table = self._table
        matched = assigned >= 0
        missed = ~matched
        if len(observations):
            self._kalman.update(table.motion, measured.take(assigned, axis=1), matched)
            table.label(
                matched,
                observations.classes.take(assigned),
                observations.scores.take(assigned),
                self._config.class_vote,
            )
        # The size of a lost track stays constant: an old trend would inflate or shrink it.
        table.motion[self._kalman.size_velocity] *= matched
        np.copyto(table.matched_at[1], timestamp, where=matched)
        keep_mask = matched | ~table.expired
        keep_mask[table.confirmed :] = matched[table.confirmed :]
        # A track that is first missed in this frame stays for one more, however long ago the previous frame was.
        overdue = table.overdue(timestamp, self._config.lost_buffer_s)
        table.expired |= overdue & table.lost
        table.lost = missed
        return keep_mask

    def _start_tracks(self, observations: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        """Start a track from each of the columns `born`."""
        table = self._table
        table.confirmed = len(table)
        if born.size:
            ids = np.arange(self._next_id, self._next_id + born.size)
            motion = self._kalman.initiate(measured.take(born, axis=1))
            table.append(ids, motion, timestamp, observations.classes.take(born), observations.scores.take(born))
            self._next_id += born.size
        if self._timestamp is None:
            table.confirmed = len(table)

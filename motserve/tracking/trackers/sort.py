"""SORT: a motion model, IoU and one assignment.

Reference: Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016. Time is in seconds instead of frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from motserve.base import NO_CUES, TrackerBase
from motserve.config import SortConfig
from motserve.tracking.association import find_candidates, match
from motserve.tracking.motion import AreaFilter
from motserve.tracking.observations import Observations, observe
from motserve.tracking.saved_state import restore_state, save_state
from motserve.tracking.time import steps_between, usable_rate_hz
from motserve.tracking.track_table import TrackTable
from motserve.types import Cues, Detections, FloatArray, IntArray, Tracks


class Sort(TrackerBase):
    """Tracks objects by motion and IoU alone.

    Every detection above `confidence` that is not matched starts a track. A track is reported once it was matched in
    `confirm_hits` frames in a row, and in the first `confirm_hits` frames of a video at once. It is removed when it
    was not matched for longer than `lost_buffer_s`, but never at its first missed frame.

    Args:
        config: Threshold, buffer and limit.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: SortConfig, rate_hz: float | None = None) -> None:
        self._config = config
        self._steps_per_s = config.reference_rate_hz or usable_rate_hz(rate_hz)
        self._kalman = AreaFilter()
        self._table = TrackTable.empty(self._kalman.rows, {"streak": np.empty(0, np.int64)})
        self._timestamp: float | None = None
        self._frame = 0
        self._next_id = 1

    def update(self, detections: Detections, timestamp: float, cues: Cues = NO_CUES) -> Tracks:
        """Advance by one frame; see `TrackerBase.update`. The cues are not used."""
        table, kalman = self._table, self._kalman
        steps = steps_between(self._timestamp, timestamp, self._steps_per_s)
        observations = observe(detections, self._config.confidence)
        measured = kalman.measure(observations.centre, observations.size)
        self._frame += 1
        kalman.predict(table.motion, steps)
        limit = self._config.match_distance
        pairs = find_candidates(kalman.boxes(table.motion), observations.boxes, limit)
        if self._config.class_aware:
            pairs = pairs.select(table.labels.take(pairs.rows) == observations.classes.take(pairs.columns))
        rows, columns = match(pairs, limit)
        assigned = np.full(len(table), -1)
        assigned[rows] = columns
        matched = assigned >= 0
        if len(observations):
            kalman.update(table.motion, measured.take(assigned, axis=1), matched)
            table.label(
                matched,
                observations.classes.take(assigned),
                observations.scores.take(assigned),
                self._config.class_vote,
            )
        table.matched_at[1, matched] = timestamp
        table.extra["streak"] = np.where(matched, table.extra["streak"] + 1, 0)
        overdue = table.overdue(timestamp, self._config.lost_buffer_s)
        removed = ~matched & overdue & table.lost
        table.lost = ~matched
        table.keep(~removed)
        born = np.delete(np.arange(len(observations)), columns)
        self._start_tracks(observations, measured, born, timestamp)
        assigned = np.concatenate([assigned[~removed], born])
        self._timestamp = timestamp

        is_warm_up = self._frame <= self._config.confirm_hits
        is_reported = ~table.lost & (is_warm_up | (table.extra["streak"] >= self._config.confirm_hits))
        reported = is_reported.nonzero()[0]
        assigned = assigned.take(reported)
        return Tracks(
            ids=table.ids.take(reported),
            boxes=kalman.boxes(table.motion).T.take(reported, axis=0),
            scores=observations.scores.take(assigned),
            classes=table.labels.take(reported),
            detections=observations.rows.take(assigned),
        )

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        return save_state(self, self._table, self._timestamp, frame=self._frame, next_id=self._next_id)

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type. The state is unchanged.
        """
        table, timestamp, (frame, next_id) = restore_state(state, self, self._table.restored, "frame", "next_id")
        self._table, self._timestamp, self._frame, self._next_id = table, timestamp, frame, next_id

    def _start_tracks(self, observations: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        table = self._table
        ids = np.arange(self._next_id, self._next_id + born.size)
        motion = self._kalman.initiate(measured.take(born, axis=1))
        table.append(ids, motion, timestamp, observations.classes.take(born), observations.scores.take(born))
        table.extra["streak"][len(table) - born.size :] = 0
        table.confirmed = len(table)
        self._next_id += born.size

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
from motserve.tracking.state import restored, saved
from motserve.tracking.table import TrackTable
from motserve.tracking.time import TOLERANCE_S, steps_between, usable_rate_hz
from motserve.types import Cues, Detections, FloatArray, IntArray, Tracks


class Sort(TrackerBase):
    """Follows objects by motion and IoU alone.

    Every detection above `confidence` counts and starts a track when nothing matches it. A track is reported while it
    was matched in `confirm_hits` frames in a row; in the first frames of a video at once. It is removed when it was
    not matched for longer than `lost_buffer_s`, but not before it was missing in one frame.

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
        """Advance by one frame; see `TrackerBase.update`. Nothing of the cues is used."""
        table, kalman = self._table, self._kalman
        steps = steps_between(self._timestamp, timestamp, self._steps_per_s)
        seen = observe(detections, self._config.confidence)
        measured = kalman.measure(seen.centre, seen.size)
        self._frame += 1
        kalman.predict(table.motion, steps)
        limit = self._config.match_distance
        pairs = find_candidates(kalman.boxes(table.motion), seen.boxes, limit)
        if self._config.class_aware:
            pairs = pairs.select(table.labels.take(pairs.rows) == seen.classes.take(pairs.columns))
        rows, columns = match(pairs, limit)
        found = np.full(len(table), -1)
        found[rows] = columns
        hit = found >= 0
        if len(seen):
            kalman.update(table.motion, measured.take(found, axis=1), hit)
            table.label(hit, seen.classes.take(found), seen.scores.take(found), self._config.class_vote)
        table.seen[1, hit] = timestamp
        table.extra["streak"] = np.where(hit, table.extra["streak"] + 1, 0)
        overdue = timestamp - table.seen[1] > self._config.lost_buffer_s + TOLERANCE_S
        gone = ~hit & overdue & table.lost
        table.lost = ~hit
        table.keep(~gone)
        born = np.delete(np.arange(len(seen)), columns)
        self._give_birth(seen, measured, born, timestamp)
        found = np.concatenate([found[~gone], born])
        self._timestamp = timestamp

        early = self._frame <= self._config.confirm_hits
        is_shown = ~table.lost & (early | (table.extra["streak"] >= self._config.confirm_hits))
        shown = is_shown.nonzero()[0]
        found = found.take(shown)
        return Tracks(
            ids=table.ids.take(shown),
            boxes=kalman.boxes(table.motion).T.take(shown, axis=0),
            scores=seen.scores.take(found),
            classes=table.labels.take(shown),
            detections=seen.rows.take(found),
        )

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        return saved(self, self._table, self._timestamp, frame=self._frame, next_id=self._next_id)

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type. The state is as it was.
        """
        table, timestamp, (frame, next_id) = restored(state, self, self._table.renewed, "frame", "next_id")
        self._table, self._timestamp, self._frame, self._next_id = table, timestamp, frame, next_id

    def _give_birth(self, seen: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        table = self._table
        ids = np.arange(self._next_id, self._next_id + born.size)
        motion = self._kalman.initiate(measured.take(born, axis=1))
        table.append(ids, motion, timestamp, seen.classes.take(born), seen.scores.take(born))
        table.extra["streak"][len(table) - born.size :] = 0
        table.confirmed = len(table)
        self._next_id += born.size

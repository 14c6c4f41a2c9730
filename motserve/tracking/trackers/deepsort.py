"""DeepSORT: appearance first, the most recently seen first, then overlap.

Reference: Wojke, Bewley and Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP 2017.
Time is in seconds instead of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from motserve.base import NO_CUES, TrackerBase
from motserve.config import DeepSortConfig, StrongSortConfig
from motserve.tracking.association import assign, find_candidates, match
from motserve.tracking.motion import AspectFilter
from motserve.tracking.observations import Observations, observe
from motserve.tracking.state import restored, saved
from motserve.tracking.table import TrackTable
from motserve.tracking.time import TOLERANCE_S, steps_between, usable_rate_hz
from motserve.types import BoolArray, Cues, Detections, FloatArray, IntArray, Tracks

LOOKS: Final = "looks"

GATE: Final = 9.4877
"""Squared Mahalanobis distance that 95 % of right pairs stay below, with four degrees of freedom."""


class DeepSort(TrackerBase):
    """Follows objects by appearance, as far as motion allows, and by overlap.

    A track is born from every unmatched detection above `confidence`. It is confirmed once it was matched in
    `confirm_hits` frames in a row, and removed before that when it is missed once. A confirmed track is removed when
    it was lost for longer than `lost_buffer_s`. Confirmed tracks are matched with detections by the distance to the
    nearest embedding in their gallery, those first that were seen last; what is left over of detections, of new
    tracks and of those seen in the frame before is matched by overlap. Without an embedding, overlap alone counts.

    Args:
        config: Thresholds, buffer, gallery and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: DeepSortConfig | StrongSortConfig, rate_hz: float | None = None) -> None:
        self._config = config
        self._steps_per_s = config.kalman.reference_rate_hz or usable_rate_hz(rate_hz)
        self._kalman = AspectFilter(config.kalman)
        whole = np.empty(0, np.int64)
        extra = {"hits": whole, "missed": whole, **self._remembered()}
        self._table = TrackTable.empty(self._kalman.rows, extra)
        self._timestamp: float | None = None
        self._next_id = 1

    def wants(self, detections: Detections) -> IntArray:
        """Return the rows of the detections that count; see `TrackerBase.wants`."""
        return np.flatnonzero(detections.scores > self._config.confidence)

    def update(self, detections: Detections, timestamp: float, cues: Cues = NO_CUES) -> Tracks:
        """Advance by one frame; see `TrackerBase.update`.

        Args:
            detections: What was seen in the frame.
            timestamp: Presentation time in seconds, greater than that of the frame before.
            cues: Embeddings of the rows that `wants` named, and the camera's motion.
        """
        table, kalman = self._table, self._kalman
        steps = steps_between(self._timestamp, timestamp, self._steps_per_s)
        seen = observe(detections, self._config.confidence, cues)
        measured = kalman.measure(seen.centre, seen.size)
        kalman.predict(table.motion, steps)
        if cues.camera is not None:
            kalman.warp(table.motion, cues.camera)
        table.extra["missed"] += 1
        if seen.last_embedded_at.any():
            table.set_dimension(LOOKS, len(seen.looks))
        found = self._associate(seen, measured)

        hit = found >= 0
        if len(seen):
            kalman.update(table.motion, measured.take(found, axis=1), hit, self._trust(seen, found))
            table.label(hit, seen.classes.take(found), seen.scores.take(found), self._config.class_vote)
        table.seen[1, hit] = timestamp
        table.extra["hits"] += hit
        table.extra["missed"][hit] = 0
        overdue = timestamp - table.seen[1] > self._config.lost_buffer_s + TOLERANCE_S
        kept = hit | (~overdue & (np.arange(len(table)) < table.confirmed))
        table.lost = ~hit
        table.keep(kept)
        born = np.setdiff1d(np.arange(len(seen)), found[hit])
        self._give_birth(seen, measured, born, timestamp)
        found = np.concatenate([found[kept], born])
        table.confirmed = int(np.count_nonzero(table.extra["hits"] >= self._config.confirm_hits))
        present = np.flatnonzero(~table.lost)
        present = present[seen.last_embedded_at[found[present]]]
        if present.size:
            self._look(present, seen.looks.take(found[present], axis=1))
        self._timestamp = timestamp

        shown = np.flatnonzero(~table.lost[: table.confirmed])
        found = found[shown]
        return Tracks(
            ids=table.ids[shown],
            boxes=kalman.boxes(table.motion).T.take(shown, axis=0),
            scores=seen.scores[found],
            classes=table.labels[shown],
            detections=seen.rows[found],
        )

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        return saved(self, self._table, self._timestamp, next_id=self._next_id)

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type. The state is as it was.
        """
        table, timestamp, (next_id,) = restored(
            state, self, lambda state: self._table.of_dimension(LOOKS, state).renewed(state), "next_id"
        )
        self._table, self._timestamp, self._next_id = table, timestamp, next_id

    # --- what a tracker of this family decides for itself

    def _remembered(self) -> dict[str, NDArray[Any]]:
        """Return what is remembered of looks, without a track; the last axis but one of `LOOKS` is of embeddings."""
        assert isinstance(self._config, DeepSortConfig)
        gallery = np.empty((self._config.gallery, 0, 0), np.float32)  # NaN for none
        return {LOOKS: gallery, "looked": np.empty(0, np.int64)}

    def _look(self, tracks: IntArray, looks: FloatArray) -> None:
        """Remember what tracks look like.

        Args:
            tracks: `(k,)` columns of the table, at least one.
            looks: `(d, k)` the embedding of each.
        """
        gallery, looked = self._table.extra[LOOKS], self._table.extra["looked"]
        looked[tracks] += 1
        gallery[looked[tracks] % len(gallery), :, tracks] = looks.T  # over the oldest

    def _match_by_looks(self, tracks: IntArray, seen: Observations, measured: FloatArray) -> tuple[IntArray, IntArray]:
        """Match confirmed tracks with observations that have an embedding.

        Args:
            tracks: `(k,)` columns of the table.
            seen: The frame's observations, some of which have an embedding.
            measured: `(4, m)` coordinates of the observations.

        Returns:
            Column of the track and column of the observation of each match, `(j,)` int64 each.
        """
        missed = self._table.extra["missed"].take(tracks)
        free = seen.last_embedded_at.copy()
        likeness = self._table.extra[LOOKS].transpose(0, 2, 1) @ seen.looks
        nearest = 1 - np.fmax.reduce(likeness, axis=0)  # (n, m), NaN where nobody was looked at
        matches = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for age in np.unique(missed).tolist():
            level, left = tracks[missed == age], np.flatnonzero(free)
            if not left.size:
                break
            distance = nearest[np.ix_(level, left)]
            rows, columns = np.nonzero(distance <= self._config.max_distance)
            near = self._kalman.distance(self._table.motion, measured, level.take(rows), left.take(columns)) <= GATE
            near &= self._alike(level.take(rows), left.take(columns), seen)
            rows, columns = rows[near], columns[near]
            cost = distance[rows, columns].astype(np.float64)
            chosen = assign(rows, columns, cost, self._config.max_distance)
            matches.append((level.take(chosen[0]), left.take(chosen[1])))
            free[matches[-1][1]] = False
        return np.concatenate([rows for rows, _ in matches]), np.concatenate([columns for _, columns in matches])

    def _trust(self, seen: Observations, found: IntArray) -> FloatArray | None:
        """Return the factor on the variance of each track's measurement; None for 1."""
        return None

    # ---

    def _alike(self, tracks: IntArray, columns: IntArray, seen: Observations) -> BoolArray:
        """Return which pairs of a track and an observation may be matched by their classes."""
        if not self._config.class_aware:
            return np.ones(tracks.size, np.bool_)
        return np.asarray(self._table.labels.take(tracks) == seen.classes.take(columns))

    def _associate(self, seen: Observations, measured: FloatArray) -> IntArray:
        """Return for each track the column of its observation or -1."""
        table, limit = self._table, self._config.match_distance
        found = np.full(len(table), -1)
        confirmed = np.arange(table.confirmed)
        if seen.last_embedded_at.any() and confirmed.size:
            rows, columns = self._match_by_looks(confirmed, seen, measured)
            found[rows] = columns
        free = np.ones(len(seen), np.bool_)
        free[found[found >= 0]] = False
        tracks, left = np.flatnonzero((found < 0) & (table.extra["missed"] == 1)), np.flatnonzero(free)
        boxes = self._kalman.boxes(table.motion.take(tracks, axis=1))
        pairs = find_candidates(boxes, seen.boxes.take(left, axis=1), limit)
        pairs = pairs.select(self._alike(tracks.take(pairs.rows), left.take(pairs.columns), seen))
        rows, columns = match(pairs, limit)
        found[tracks.take(rows)] = left.take(columns)
        return found

    def _give_birth(self, seen: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        table = self._table
        ids = np.arange(self._next_id, self._next_id + born.size)
        motion = self._kalman.initiate(measured.take(born, axis=1))
        table.append(ids, motion, timestamp, seen.classes.take(born), seen.scores.take(born))
        table.extra["hits"][len(table) - born.size :] = 1
        table.extra["missed"][len(table) - born.size :] = 0
        self._next_id += born.size

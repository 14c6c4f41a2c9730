"""DeepSORT: a cascade by appearance, the most recently matched tracks first, then IoU.

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
from motserve.tracking.saved_state import restore_state, save_state
from motserve.tracking.time import steps_between, usable_rate_hz
from motserve.tracking.track_table import TrackTable
from motserve.types import BoolArray, Cues, Detections, FloatArray, IntArray, Tracks

EMBEDDINGS: Final = "embeddings"

GATE: Final = 9.4877
"""Squared Mahalanobis distance below which 95 % of correct pairs lie, with four degrees of freedom."""


class DeepSort(TrackerBase):
    """Tracks objects by appearance within a motion gate, and by IoU.

    A track is born from every unmatched detection above `confidence`. It is confirmed once it was matched in
    `confirm_hits` frames in a row, and removed before that when it is missed once. A confirmed track is removed when
    it has been lost for longer than `lost_buffer_s`. Confirmed tracks are matched with detections by the distance to
    the nearest embedding in their gallery, the most recently matched tracks first. The remaining detections are
    matched by IoU with new tracks and with tracks that were matched in the previous frame. Detections without an
    embedding are matched by IoU alone.

    Args:
        config: Thresholds, buffer, gallery and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: DeepSortConfig | StrongSortConfig, rate_hz: float | None = None) -> None:
        self._config = config
        self._steps_per_s = config.kalman.reference_rate_hz or usable_rate_hz(rate_hz)
        self._kalman = AspectFilter(config.kalman)
        whole = np.empty(0, np.int64)
        extra = {"hits": whole, "missed": whole, **self._extra_columns()}
        self._table = TrackTable.empty(self._kalman.rows, extra)
        self._timestamp: float | None = None
        self._next_id = 1

    def rows_to_embed(self, detections: Detections) -> IntArray:
        """Return the rows of the detections above `confidence`; see `TrackerBase.rows_to_embed`."""
        return np.flatnonzero(detections.scores > self._config.confidence)

    def update(self, detections: Detections, timestamp: float, cues: Cues = NO_CUES) -> Tracks:
        """Advance by one frame; see `TrackerBase.update`.

        Args:
            detections: Detections of the frame.
            timestamp: Presentation time in seconds, greater than that of the previous frame.
            cues: Embeddings of the rows that `rows_to_embed` returned, and the camera's motion.
        """
        table, kalman = self._table, self._kalman
        steps = steps_between(self._timestamp, timestamp, self._steps_per_s)
        observations = observe(detections, self._config.confidence, cues)
        measured = kalman.measure(observations.centre, observations.size)
        kalman.predict(table.motion, steps)
        if cues.camera is not None:
            kalman.warp(table.motion, cues.camera)
        table.extra["missed"] += 1
        if observations.has_embedding.any():
            table.set_dimension(EMBEDDINGS, len(observations.embeddings))
        assigned = self._associate(observations, measured)

        matched = assigned >= 0
        if len(observations):
            kalman.update(table.motion, measured.take(assigned, axis=1), matched, self._trust(observations, assigned))
            table.label(
                matched,
                observations.classes.take(assigned),
                observations.scores.take(assigned),
                self._config.class_vote,
            )
        table.matched_at[1, matched] = timestamp
        table.extra["hits"] += matched
        table.extra["missed"][matched] = 0
        overdue = table.overdue(timestamp, self._config.lost_buffer_s)
        keep_mask = matched | (~overdue & (np.arange(len(table)) < table.confirmed))
        table.lost = ~matched
        table.keep(keep_mask)
        born = np.setdiff1d(np.arange(len(observations)), assigned[matched])
        self._start_tracks(observations, measured, born, timestamp)
        assigned = np.concatenate([assigned[keep_mask], born])
        table.confirmed = int(np.count_nonzero(table.extra["hits"] >= self._config.confirm_hits))
        present = np.flatnonzero(~table.lost)
        present = present[observations.has_embedding[assigned[present]]]
        if present.size:
            self._update_appearance(present, observations.embeddings.take(assigned[present], axis=1))
        self._timestamp = timestamp

        reported = np.flatnonzero(~table.lost[: table.confirmed])
        assigned = assigned[reported]
        return Tracks(
            ids=table.ids[reported],
            boxes=kalman.boxes(table.motion).T.take(reported, axis=0),
            scores=observations.scores[assigned],
            classes=table.labels[reported],
            detections=observations.rows[assigned],
        )

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        return save_state(self, self._table, self._timestamp, next_id=self._next_id)

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type. The state is unchanged.
        """
        table, timestamp, (next_id,) = restore_state(
            state, self, lambda state: self._table.of_dimension(EMBEDDINGS, state).restored(state), "next_id"
        )
        self._table, self._timestamp, self._next_id = table, timestamp, next_id

    # --- what subclasses override

    def _extra_columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of appearance, without a track; the last axis but one of `EMBEDDINGS` is an embedding."""
        assert isinstance(self._config, DeepSortConfig)
        gallery = np.empty((self._config.gallery, 0, 0), np.float32)  # NaN for none
        return {EMBEDDINGS: gallery, "num_embeddings": np.empty(0, np.int64)}

    def _update_appearance(self, tracks: IntArray, embeddings: FloatArray) -> None:
        """Store the embeddings of tracks.

        Args:
            tracks: `(k,)` columns of the table, at least one.
            embeddings: `(d, k)` the embedding of each.
        """
        gallery, num_embeddings = self._table.extra[EMBEDDINGS], self._table.extra["num_embeddings"]
        num_embeddings[tracks] += 1
        gallery[num_embeddings[tracks] % len(gallery), :, tracks] = embeddings.T  # replaces the oldest

    def _match_by_appearance(
        self, tracks: IntArray, observations: Observations, measured: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Match confirmed tracks with observations that have an embedding.

        Args:
            tracks: `(k,)` columns of the table.
            observations: The frame's observations, some of which have an embedding.
            measured: `(4, m)` coordinates of the observations.

        Returns:
            Column of the track and column of the observation of each match, `(j,)` int64 each.
        """
        missed = self._table.extra["missed"].take(tracks)
        free = observations.has_embedding.copy()
        similarity = self._table.extra[EMBEDDINGS].transpose(0, 2, 1) @ observations.embeddings
        nearest = 1 - np.fmax.reduce(similarity, axis=0)  # (n, m), NaN for a track without an embedding
        matches = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for age in np.unique(missed).tolist():
            cascade, remaining = tracks[missed == age], np.flatnonzero(free)
            if not remaining.size:
                break
            distance = nearest[np.ix_(cascade, remaining)]
            rows, columns = np.nonzero(distance <= self._config.max_distance)
            near = (
                self._kalman.distance(self._table.motion, measured, cascade.take(rows), remaining.take(columns)) <= GATE
            )
            near &= self._alike(cascade.take(rows), remaining.take(columns), observations)
            rows, columns = rows[near], columns[near]
            cost = distance[rows, columns].astype(np.float64)
            chosen = assign(rows, columns, cost, self._config.max_distance)
            matches.append((cascade.take(chosen[0]), remaining.take(chosen[1])))
            free[matches[-1][1]] = False
        return np.concatenate([rows for rows, _ in matches]), np.concatenate([columns for _, columns in matches])

    def _trust(self, observations: Observations, assigned: IntArray) -> FloatArray | None:
        """Return the factor on the variance of each track's measurement; None for 1."""
        return None

    # ---

    def _alike(self, tracks: IntArray, columns: IntArray, observations: Observations) -> BoolArray:
        """Return which pairs of a track and an observation may be matched by their classes."""
        if not self._config.class_aware:
            return np.ones(tracks.size, np.bool_)
        return np.asarray(self._table.labels.take(tracks) == observations.classes.take(columns))

    def _associate(self, observations: Observations, measured: FloatArray) -> IntArray:
        """Return for each track the column of its observation or -1."""
        table, limit = self._table, self._config.match_distance
        assigned = np.full(len(table), -1)
        confirmed = np.arange(table.confirmed)
        if observations.has_embedding.any() and confirmed.size:
            rows, columns = self._match_by_appearance(confirmed, observations, measured)
            assigned[rows] = columns
        free = np.ones(len(observations), np.bool_)
        free[assigned[assigned >= 0]] = False
        tracks, remaining = np.flatnonzero((assigned < 0) & (table.extra["missed"] == 1)), np.flatnonzero(free)
        boxes = self._kalman.boxes(table.motion.take(tracks, axis=1))
        pairs = find_candidates(boxes, observations.boxes.take(remaining, axis=1), limit)
        pairs = pairs.select(self._alike(tracks.take(pairs.rows), remaining.take(pairs.columns), observations))
        rows, columns = match(pairs, limit)
        assigned[tracks.take(rows)] = remaining.take(columns)
        return assigned

    def _start_tracks(self, observations: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        table = self._table
        ids = np.arange(self._next_id, self._next_id + born.size)
        motion = self._kalman.initiate(measured.take(born, axis=1))
        table.append(ids, motion, timestamp, observations.classes.take(born), observations.scores.take(born))
        table.extra["hits"][len(table) - born.size :] = 1
        table.extra["missed"][len(table) - born.size :] = 0
        self._next_id += born.size

"""OC-SORT: observations count for more than predictions.

Three things are added to SORT. A match costs more, the more the direction to a detection departs from the direction
of the track's observations (momentum). Unmatched detections are compared with the last observations of tracks
instead of the predictions (recovery). When a lost track is matched again, its motion is computed again as if it had
been observed on a straight line in between (re-update). Births, lost tracks, duplicates and the motion model are those
of ByteTrack, as in Ultralytics' implementation.

Reference: Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking", CVPR 2023.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.config import OcSortConfig
from motserve.tracking.association import Candidates, find_candidates, match
from motserve.tracking.observations import MIN_SIDE, Observations
from motserve.tracking.trackers.bytetrack import ByteTrack
from motserve.types import BoolArray, FloatArray, IntArray

_MIN_DISPLACEMENT = 1e-6  # pixels; a shorter displacement has no direction


class OcSort(ByteTrack):
    """Tracks objects by motion, IoU and the direction of their observations.

    Args:
        config: Thresholds, buffer, motion model and weight of the direction.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    _matches_twice = True
    _compensates_camera = False  # stored observations would have to move too

    def __init__(self, config: OcSortConfig, rate_hz: float | None = None) -> None:
        self._oc_config = config
        super().__init__(config, rate_hz)
        self._uses_low_scores = config.second_association
        self._frame = 0

    def _extra_columns(self) -> dict[str, NDArray[Any]]:
        history = self._oc_config.direction_frames + 2
        return {
            "frames": np.empty((history, 0), np.int64),  # of the latest observations, the latest first
            "boxes": np.empty((history, 4, 0), np.float32),
            "direction": np.empty((2, 0), np.float32),  # unit vector, zero without movement, NaN where not known
            "saved": np.empty((self._kalman.rows, 0)),  # motion at the latest observation
        }

    def _match_first(
        self, pairs: Candidates, observations: Observations, scores: FloatArray | None
    ) -> tuple[IntArray, IntArray]:
        config, extra = self._oc_config, self._table.extra
        displacement = _centres(observations.boxes).take(pairs.columns, axis=1) - _centres(extra["boxes"][0]).take(
            pairs.rows, axis=1
        )
        length = np.sqrt((displacement**2).sum(axis=0))
        direction = extra["direction"].take(pairs.rows, axis=1)
        known = (length > _MIN_DISPLACEMENT) & ~np.isnan(direction[0])
        cosine = (displacement * direction).sum(axis=0) / np.maximum(length, _MIN_DISPLACEMENT)
        angle = np.arccos(np.clip(np.where(known, cosine, 1), -1, 1)) / np.pi
        with_angle = pairs.fused(scores) + np.float32(config.direction_weight) * angle.astype(np.float32)
        return match(Candidates(pairs.rows, pairs.columns, with_angle), config.match_distance)

    def _match_second_time(
        self, assigned: IntArray, free: BoolArray, observations: Observations
    ) -> tuple[IntArray, IntArray]:
        """Match by the last observations; tracks matched in the previous frame come before lost ones."""
        config, table = self._oc_config, self._table
        latest = table.extra["boxes"][0]
        free = free.copy()
        matched_rows, matched_columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for is_lost in (False, True):
            tracks = ((assigned < 0) & (table.lost[: len(assigned)] == is_lost)).nonzero()[0]
            remaining = free.nonzero()[0]
            if not tracks.size or not remaining.size:
                continue
            scores = observations.scores.take(remaining) if config.fuse_score else None
            pairs = find_candidates(
                latest.take(tracks, axis=1), observations.boxes.take(remaining, axis=1), config.match_distance
            )
            if config.class_aware:
                same = table.labels.take(tracks.take(pairs.rows)) == observations.classes.take(
                    remaining.take(pairs.columns)
                )
                pairs = pairs.select(same)
            rows, columns = match(pairs, config.match_distance, scores)
            matched_rows.append(tracks.take(rows))
            matched_columns.append(remaining.take(columns))
            free[remaining.take(columns)] = False
        return np.concatenate(matched_rows), np.concatenate(matched_columns)

    def _correct(
        self, observations: Observations, measured: FloatArray, assigned: IntArray, timestamp: float
    ) -> BoolArray:
        table, extra = self._table, self._table.extra
        self._frame += 1
        back = ((assigned >= 0) & table.lost).nonzero()[0]
        if back.size:
            self._re_update(back, observations.boxes.take(assigned.take(back), axis=1), timestamp)
        keep_mask = super()._correct(observations, measured, assigned, timestamp)
        matched = (assigned >= 0).nonzero()[0]
        self._store_observations(matched, observations, assigned.take(matched))
        extra["direction"][:, matched] = self._directions(matched)
        return keep_mask

    def _start_tracks(self, observations: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        super()._start_tracks(observations, measured, born, timestamp)
        self._store_observations(np.arange(len(self._table) - born.size, len(self._table)), observations, born)

    def _store_observations(self, tracks: IntArray, observations: Observations, columns: IntArray) -> None:
        """Store observations of this frame as the latest of tracks."""
        extra = self._table.extra
        extra["saved"][:, tracks] = self._table.motion[:, tracks]
        for name, latest in (
            ("frames", np.full(tracks.size, self._frame)),
            ("boxes", observations.boxes.take(columns, axis=1)),
        ):
            older = extra[name][:-1].take(tracks, axis=-1)
            extra[name][..., tracks] = np.concatenate([latest[None], older])

    def _directions(self, tracks: IntArray) -> FloatArray:
        """Return `(2, k)`: direction from an observation some frames ago to the latest, NaN where there is only one."""
        frames = self._table.extra["frames"].take(tracks, axis=1)
        known = frames >= 0
        old_enough = known & (frames <= self._frame - self._oc_config.direction_frames)
        oldest = known.sum(axis=0) - 1
        start = np.where(old_enough.any(axis=0), old_enough.argmax(axis=0), oldest)
        boxes = self._table.extra["boxes"].take(tracks, axis=2)
        displacement = _centres(boxes[0]) - _centres(boxes[start, :, np.arange(tracks.size)].T)
        length = np.sqrt((displacement**2).sum(axis=0))
        direction: FloatArray = np.where(
            length > _MIN_DISPLACEMENT, displacement / np.maximum(length, _MIN_DISPLACEMENT), 0
        ).astype(np.float32)
        direction[:, oldest == 0] = np.nan
        return direction

    def _re_update(self, tracks: IntArray, boxes: FloatArray, timestamp: float) -> None:
        """Replace the motion of lost tracks by that of virtual observations on a straight line."""
        table, kalman = self._table, self._kalman
        motion = table.extra["saved"].take(tracks, axis=1)
        gaps = self._frame - table.extra["frames"][0].take(tracks)
        last = table.extra["boxes"][0].take(tracks, axis=1)
        steps = (timestamp - table.matched_at[1].take(tracks)) * self._steps_per_s / gaps
        for frame in range(1, int(gaps.max()) + 1):
            for step in np.unique(steps).tolist():
                now = ((gaps >= frame) & (steps == step)).nonzero()[0]
                part = motion.take(now, axis=1)
                kalman.predict(part, step)
                between = now[gaps.take(now) > frame]
                if between.size:
                    alpha = (frame / gaps.take(now)).astype(np.float32)
                    virtual = (1 - alpha) * last.take(now, axis=1) + alpha * boxes.take(now, axis=1)
                    # far from the origin, rounding may make the edges of a small box coincide
                    size = np.maximum(virtual[2:] - virtual[:2], MIN_SIDE)
                    measured = kalman.measure((virtual[:2] + virtual[2:]) / 2, size)
                    kalman.update(part, measured, gaps.take(now) > frame)
                motion[:, now] = part
        table.motion[:, tracks] = motion

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        return {**super().state_dict(), "frame": np.array(self._frame)}

    def load_state_dict(self, state: Any) -> None:
        """Replace the state by one that `state_dict` returned; see `ByteTrack.load_state_dict`."""
        if "frame" not in state:
            raise ValueError("state has no 'frame'; it was not written by this tracker")
        frame = int(np.asarray(state["frame"]).item())
        super().load_state_dict(state)
        self._frame = frame


def _centres(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:2] + boxes[2:]) / 2, np.float32)

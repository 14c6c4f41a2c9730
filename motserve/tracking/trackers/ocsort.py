"""OC-SORT: what was observed counts for more than what was predicted.

Three things are added to SORT. A match costs more, the more the way to a detection departs from the course that a
track's observations took (momentum). What is left over is compared with the last observations instead of the
predictions (recovery). When a lost track is found again, its motion is computed anew as if it had been observed on a
straight line in between (re-update). Births, lost tracks and duplicates follow ByteTrack, as in Ultralytics'
implementation, and so does the motion model.

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

_NO_WAY = 1e-6  # pixels; a way shorter than this has no direction


class OcSort(ByteTrack):
    """Follows objects by motion, IoU and the course of their observations.

    Args:
        config: Thresholds, buffer, motion model and weight of the course.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    _recalls = True
    _moves_along = False  # what it remembers of observations would have to move too

    def __init__(self, config: OcSortConfig, rate_hz: float | None = None) -> None:
        self._oc_config = config
        super().__init__(config, rate_hz)
        self._uses_unsure = config.second_association
        self._frame = 0

    def _remembered(self) -> dict[str, NDArray[Any]]:
        history = self._oc_config.direction_frames + 2
        return {
            "frames": np.empty((history, 0), np.int64),  # of the latest observations, the latest first
            "boxes": np.empty((history, 4, 0), np.float32),
            "course": np.empty((2, 0), np.float32),  # of unit length, zero for who stands still, NaN where unknown
            "saved": np.empty((self._kalman.rows, 0)),  # motion at the latest observation
        }

    def _match_first(
        self, pairs: Candidates, seen: Observations, scores: FloatArray | None
    ) -> tuple[IntArray, IntArray]:
        config, extra = self._oc_config, self._table.extra
        way = _centres(seen.boxes).take(pairs.columns, axis=1) - _centres(extra["boxes"][0]).take(pairs.rows, axis=1)
        length = np.sqrt((way**2).sum(axis=0))
        course = extra["course"].take(pairs.rows, axis=1)
        known = (length > _NO_WAY) & ~np.isnan(course[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = (way * course).sum(axis=0) / length
        angle = np.arccos(np.clip(np.where(known, cosine, 1), -1, 1)) / np.pi
        with_angle = pairs.fused(scores) + np.float32(config.direction_weight) * angle.astype(np.float32)
        return match(Candidates(pairs.rows, pairs.columns, with_angle), config.match_distance)

    def _match_again(self, found: IntArray, free: BoolArray, seen: Observations) -> tuple[IntArray, IntArray]:
        """Match by the last observations; tracks that were never lost come first."""
        config, table = self._oc_config, self._table
        latest = table.extra["boxes"][0]
        free = free.copy()
        matched_rows, matched_columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for is_lost in (False, True):
            tracks = ((found < 0) & (table.lost[: len(found)] == is_lost)).nonzero()[0]
            left = free.nonzero()[0]
            if not tracks.size or not left.size:
                continue
            scores = seen.scores.take(left) if config.fuse_score else None
            pairs = find_candidates(latest.take(tracks, axis=1), seen.boxes.take(left, axis=1), config.match_distance)
            if config.class_aware:
                same = table.labels.take(tracks.take(pairs.rows)) == seen.classes.take(left.take(pairs.columns))
                pairs = pairs.select(same)
            rows, columns = match(pairs, config.match_distance, scores)
            matched_rows.append(tracks.take(rows))
            matched_columns.append(left.take(columns))
            free[left.take(columns)] = False
        return np.concatenate(matched_rows), np.concatenate(matched_columns)

    def _correct(self, seen: Observations, measured: FloatArray, found: IntArray, timestamp: float) -> BoolArray:
        table, extra = self._table, self._table.extra
        self._frame += 1
        back = ((found >= 0) & table.lost).nonzero()[0]
        if back.size:
            self._update_anew(back, seen.boxes.take(found.take(back), axis=1), timestamp)
        kept = super()._correct(seen, measured, found, timestamp)
        hit = (found >= 0).nonzero()[0]
        self._remember(hit, seen, found.take(hit))
        extra["course"][:, hit] = self._courses(hit)
        return kept

    def _give_birth(self, seen: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        super()._give_birth(seen, measured, born, timestamp)
        self._remember(np.arange(len(self._table) - born.size, len(self._table)), seen, born)

    def _remember(self, tracks: IntArray, seen: Observations, columns: IntArray) -> None:
        """Note observations of this frame as the latest of tracks."""
        extra = self._table.extra
        extra["saved"][:, tracks] = self._table.motion[:, tracks]
        for name, latest in (
            ("frames", np.full(tracks.size, self._frame)),
            ("boxes", seen.boxes.take(columns, axis=1)),
        ):
            older = extra[name][:-1].take(tracks, axis=-1)
            extra[name][..., tracks] = np.concatenate([latest[None], older])

    def _courses(self, tracks: IntArray) -> FloatArray:
        """Return `(2, k)`: direction from an observation some frames ago to the latest, NaN where there is but one."""
        frames = self._table.extra["frames"].take(tracks, axis=1)
        known = frames >= 0
        old_enough = known & (frames <= self._frame - self._oc_config.direction_frames)
        oldest = known.sum(axis=0) - 1
        start = np.where(old_enough.any(axis=0), old_enough.argmax(axis=0), oldest)
        boxes = self._table.extra["boxes"].take(tracks, axis=2)
        way = _centres(boxes[0]) - _centres(boxes[start, :, np.arange(tracks.size)].T)
        length = np.sqrt((way**2).sum(axis=0))
        course: FloatArray = np.where(length > _NO_WAY, way / np.maximum(length, _NO_WAY), 0).astype(np.float32)
        course[:, oldest == 0] = np.nan
        return course

    def _update_anew(self, tracks: IntArray, boxes: FloatArray, timestamp: float) -> None:
        """Replace the motion of tracks that were lost by what observations on a straight line would have given."""
        table, kalman = self._table, self._kalman
        motion = table.extra["saved"].take(tracks, axis=1)
        gaps = self._frame - table.extra["frames"][0].take(tracks)
        last = table.extra["boxes"][0].take(tracks, axis=1)
        steps = (timestamp - table.seen[1].take(tracks)) * self._steps_per_s / gaps
        for frame in range(1, int(gaps.max()) + 1):
            for step in np.unique(steps).tolist():
                now = ((gaps >= frame) & (steps == step)).nonzero()[0]
                part = motion.take(now, axis=1)
                kalman.predict(part, step)
                between = now[gaps.take(now) > frame]
                if between.size:
                    alpha = (frame / gaps.take(now)).astype(np.float32)
                    virtual = (1 - alpha) * last.take(now, axis=1) + alpha * boxes.take(now, axis=1)
                    # far from the origin, rounding may bring the edges of a small box together
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

"""BoT-SORT: ByteTrack with width and height in the motion model, a camera that moves, and appearance.

Reference: Aharon, Orfaig and Bobrovsky, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.config import BotSortConfig, KalmanConfig
from motserve.tracking.appearance import running_mean
from motserve.tracking.association import Candidates, match
from motserve.tracking.kalman import KalmanFilter
from motserve.tracking.motion import SizeFilter
from motserve.tracking.observations import Observations
from motserve.tracking.table import TrackTable
from motserve.tracking.trackers.bytetrack import ByteTrack
from motserve.types import BoolArray, Detections, FloatArray, IntArray

_HALF = np.float32(0.5)  # cosine distances reach to 2 and those of IoU to 1
_LOOKS = "looks"


class BotSort(ByteTrack):
    """Follows objects as ByteTrack does, with boxes moved along with the picture before they are compared.

    The camera's motion comes with each frame in `Cues.camera`; without it the camera rests. Where `appearance` is
    configured, the first association takes the lesser of the cost of motion and that of appearance, for pairs that
    are near enough and look alike. Each track keeps a running mean of its embeddings.

    Args:
        config: Thresholds, buffer, motion model and appearance.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: BotSortConfig, rate_hz: float | None = None) -> None:
        super().__init__(config, rate_hz)
        self._appearance = config.appearance

    def wants(self, detections: Detections) -> IntArray:
        """Return the rows of confident detections, where appearance is configured; see `TrackerBase.wants`."""
        if self._appearance is None:
            return super().wants(detections)
        scale = self._level.scale if self._level else 1.0
        return np.flatnonzero(detections.scores >= self._config.high_confidence * scale)

    def _renewed(self, state: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        return self._table.of_dimension(_LOOKS, state).renewed(state)

    def _motion_model(self, config: KalmanConfig) -> KalmanFilter:
        return SizeFilter(config)

    def _remembered(self) -> dict[str, NDArray[Any]]:
        return {_LOOKS: np.empty((0, 0), np.float32)}  # (d, n), NaN for who was never looked at

    def _match_first(
        self, pairs: Candidates, seen: Observations, scores: FloatArray | None
    ) -> tuple[IntArray, IntArray]:
        config, limit = self._appearance, self._config.match_distance
        if config is None or not seen.last_embedded_at.any():
            return super()._match_first(pairs, seen, scores)
        self._table.set_dimension(_LOOKS, len(seen.looks))
        cost = pairs.fused(scores)
        tracks = self._table.extra[_LOOKS].take(pairs.rows, axis=1)
        distance = 1 - (tracks * seen.looks.take(pairs.columns, axis=1)).sum(axis=0)
        alike = seen.last_embedded_at.take(pairs.columns) & (pairs.cost <= config.max_iou_distance)
        with np.errstate(invalid="ignore"):
            alike &= distance <= config.max_distance  # never with NaN
        cost = np.where(alike, np.minimum(cost, _HALF * distance), cost)
        return match(Candidates(pairs.rows, pairs.columns, cost.astype(np.float32)), limit)

    def _correct(self, seen: Observations, measured: FloatArray, found: IntArray, timestamp: float) -> BoolArray:
        self._look(np.flatnonzero(found >= 0), seen, found[found >= 0])
        return super()._correct(seen, measured, found, timestamp)

    def _give_birth(self, seen: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        super()._give_birth(seen, measured, born, timestamp)
        self._look(np.arange(len(self._table) - born.size, len(self._table)), seen, born)

    def _look(self, tracks: IntArray, seen: Observations, columns: IntArray) -> None:
        """Take the embeddings of observations into the running means of tracks."""
        known = seen.last_embedded_at[columns]
        if self._appearance is None or not known.any():
            return
        tracks, columns = tracks[known], columns[known]
        kept = self._table.extra[_LOOKS]  # as long as the frame's embeddings since the first association
        kept[:, tracks] = running_mean(kept[:, tracks], seen.looks[:, columns], self._appearance.smoothing)

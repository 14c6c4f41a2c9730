"""BoT-SORT: ByteTrack with width and height in the motion model, camera motion compensation, and appearance.

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
from motserve.tracking.track_table import TrackTable
from motserve.tracking.trackers.bytetrack import ByteTrack
from motserve.types import BoolArray, Detections, FloatArray, IntArray

_HALF = np.float32(0.5)  # cosine distances are up to 2, IoU distances up to 1
_EMBEDDINGS = "embeddings"


class BotSort(ByteTrack):
    """Tracks objects as ByteTrack does; predicted boxes are moved along with the picture before the association.

    The camera's motion comes with each frame in `Cues.camera`; without it the camera is taken to be static. Where
    `appearance` is configured, the first association uses the smaller of the motion cost and the appearance cost, for
    pairs that are near enough and have similar embeddings. Each track keeps a running mean of its embeddings.

    Args:
        config: Thresholds, buffer, motion model and appearance.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: BotSortConfig, rate_hz: float | None = None) -> None:
        super().__init__(config, rate_hz)
        self._appearance = config.appearance

    def rows_to_embed(self, detections: Detections) -> IntArray:
        """Return the rows of confident detections, where appearance is configured; see `TrackerBase.rows_to_embed`."""
        if self._appearance is None:
            return super().rows_to_embed(detections)
        scale = self._confidence_scaling.scale if self._confidence_scaling else 1.0
        return np.flatnonzero(detections.scores >= self._config.high_confidence * scale)

    def _table_of(self, state: Mapping[str, NDArray[np.generic]]) -> TrackTable:
        return self._table.of_dimension(_EMBEDDINGS, state).restored(state)

    def _motion_model(self, config: KalmanConfig) -> KalmanFilter:
        return SizeFilter(config)

    def _extra_columns(self) -> dict[str, NDArray[Any]]:
        return {_EMBEDDINGS: np.empty((0, 0), np.float32)}  # (d, n), NaN for tracks without an embedding

    def _match_first(
        self, pairs: Candidates, observations: Observations, scores: FloatArray | None
    ) -> tuple[IntArray, IntArray]:
        config, limit = self._appearance, self._config.match_distance
        if config is None or not observations.has_embedding.any():
            return super()._match_first(pairs, observations, scores)
        self._table.set_dimension(_EMBEDDINGS, len(observations.embeddings))
        cost = pairs.fused(scores)
        tracks = self._table.extra[_EMBEDDINGS].take(pairs.rows, axis=1)
        distance = 1 - (tracks * observations.embeddings.take(pairs.columns, axis=1)).sum(axis=0)
        alike = observations.has_embedding.take(pairs.columns) & (pairs.cost <= config.max_iou_distance)
        with np.errstate(invalid="ignore"):
            alike &= distance <= config.max_distance  # never with NaN
        cost = np.where(alike, np.minimum(cost, _HALF * distance), cost)
        return match(Candidates(pairs.rows, pairs.columns, cost.astype(np.float32)), limit)

    def _correct(
        self, observations: Observations, measured: FloatArray, assigned: IntArray, timestamp: float
    ) -> BoolArray:
        self._update_appearance(np.flatnonzero(assigned >= 0), observations, assigned[assigned >= 0])
        return super()._correct(observations, measured, assigned, timestamp)

    def _start_tracks(self, observations: Observations, measured: FloatArray, born: IntArray, timestamp: float) -> None:
        super()._start_tracks(observations, measured, born, timestamp)
        self._update_appearance(np.arange(len(self._table) - born.size, len(self._table)), observations, born)

    def _update_appearance(self, tracks: IntArray, observations: Observations, columns: IntArray) -> None:
        """Update the running means of tracks with the embeddings of observations."""
        known = observations.has_embedding[columns]
        if self._appearance is None or not known.any():
            return
        tracks, columns = tracks[known], columns[known]
        means = self._table.extra[_EMBEDDINGS]  # as long as the frame's embeddings since the first association
        means[:, tracks] = running_mean(
            means[:, tracks], observations.embeddings[:, columns], self._appearance.smoothing
        )

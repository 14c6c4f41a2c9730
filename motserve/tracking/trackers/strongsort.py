"""StrongSORT: DeepSORT with running means of appearance, noise scaled by confidence, and camera motion compensation.

Reference: Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023. Its linking of
tracks (AFLink) and its smoothing (GSI) run after tracking and are in `motserve.postprocessing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.config import StrongSortConfig
from motserve.tracking.appearance import running_mean
from motserve.tracking.association import assign
from motserve.tracking.observations import Observations
from motserve.tracking.trackers.deepsort import EMBEDDINGS, GATE, DeepSort
from motserve.types import FloatArray, IntArray

_MIN_TRUST = np.float32(0.01)  # a measurement without noise would make the variance 0 for ever


class StrongSort(DeepSort):
    """Tracks objects by appearance and motion in one cost, then by IoU.

    Differs from `DeepSort` in four points. A track keeps a running mean of its embeddings instead of a gallery. All
    confirmed tracks are matched at once. The cost is a weighted mean of cosine and Mahalanobis distance. A measurement
    has less noise, the higher the confidence of its detection.

    Args:
        config: Thresholds, buffer, weights and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: StrongSortConfig, rate_hz: float | None = None) -> None:
        self._strong = config
        super().__init__(config, rate_hz)

    def _extra_columns(self) -> dict[str, NDArray[Any]]:
        return {EMBEDDINGS: np.empty((0, 0), np.float32)}

    def _update_appearance(self, tracks: IntArray, embeddings: FloatArray) -> None:
        means = self._table.extra[EMBEDDINGS]
        means[:, tracks] = running_mean(means[:, tracks], embeddings, self._strong.smoothing)

    def _match_by_appearance(
        self, tracks: IntArray, observations: Observations, measured: FloatArray
    ) -> tuple[IntArray, IntArray]:
        embedded = np.flatnonzero(observations.has_embedding)
        distance = 1 - self._table.extra[EMBEDDINGS].take(tracks, axis=1).T @ observations.embeddings.take(
            embedded, axis=1
        )
        rows, columns = np.nonzero(~np.isnan(distance))
        motion = self._kalman.distance(self._table.motion, measured, tracks.take(rows), embedded.take(columns))
        weight = self._strong.appearance_weight
        cost = weight * distance[rows, columns] + (1 - weight) * motion
        allowed = (motion <= GATE) & self._alike(tracks.take(rows), embedded.take(columns), observations)
        rows, columns = assign(rows[allowed], columns[allowed], cost[allowed], self._strong.max_distance)
        return tracks.take(rows), embedded.take(columns)

    def _trust(self, observations: Observations, assigned: IntArray) -> FloatArray | None:
        return np.asarray(np.maximum(1 - observations.scores.take(assigned), _MIN_TRUST), np.float32)

"""StrongSORT: DeepSORT with running means of appearance, trust in sure detections, and a camera that moves.

Reference: Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023. Its links between
tracks of a whole file (AFLink) and its smoothing (GSI) come after tracking and are not part of this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.config import StrongSortConfig
from motserve.tracking.appearance import running_mean
from motserve.tracking.association import assign
from motserve.tracking.observations import Observations
from motserve.tracking.trackers.deepsort import GATE, LOOKS, DeepSort
from motserve.types import FloatArray, IntArray

_LEAST_TRUST = np.float32(0.01)  # a measurement without any noise would leave a filter without any doubt, for good


class StrongSort(DeepSort):
    """Follows objects by appearance and motion in one cost, then by overlap.

    Differs from `DeepSort` in four things. A track's looks are a running mean. All confirmed tracks are matched at
    once. The cost is a mean of cosine and Mahalanobis distance. The filter believes a measurement the more, the surer
    its detection is.

    Args:
        config: Thresholds, buffer, weights and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: StrongSortConfig, rate_hz: float | None = None) -> None:
        self._strong = config
        super().__init__(config, rate_hz)

    def _remembered(self) -> dict[str, NDArray[Any]]:
        return {LOOKS: np.empty((0, 0), np.float32)}

    def _look(self, tracks: IntArray, looks: FloatArray) -> None:
        kept = self._table.extra[LOOKS]
        kept[:, tracks] = running_mean(kept[:, tracks], looks, self._strong.smoothing)

    def _match_by_looks(self, tracks: IntArray, seen: Observations, measured: FloatArray) -> tuple[IntArray, IntArray]:
        left = np.flatnonzero(seen.last_embedded_at)
        distance = 1 - self._table.extra[LOOKS].take(tracks, axis=1).T @ seen.looks.take(left, axis=1)
        rows, columns = np.nonzero(~np.isnan(distance))
        motion = self._kalman.distance(self._table.motion, measured, tracks.take(rows), left.take(columns))
        weight = self._strong.appearance_weight
        cost = weight * distance[rows, columns] + (1 - weight) * motion
        allowed = (motion <= GATE) & self._alike(tracks.take(rows), left.take(columns), seen)
        rows, columns = assign(rows[allowed], columns[allowed], cost[allowed], self._strong.max_distance)
        return tracks.take(rows), left.take(columns)

    def _trust(self, seen: Observations, found: IntArray) -> FloatArray | None:
        return np.asarray(np.maximum(1 - seen.scores.take(found), _LEAST_TRUST), np.float32)

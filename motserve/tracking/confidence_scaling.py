"""How sure the detector is of people in plain view: what thresholds of confidence are scaled by."""

from __future__ import annotations

import math

import numpy as np

from motserve.config import LevelConfig
from motserve.types import FloatArray

_PRIOR_LEVEL = 0.8


class ConfidenceLevel:
    """A running mean of the confidences, weighted by their third power; see `LevelConfig`.

    At that power the many unsure detections of a crowd weigh next to nothing.

    Args:
        config: Reference, memory and prior.

    Attributes:
        sums: Weighted sums of the confidences and of the weights.
    """

    def __init__(self, config: LevelConfig) -> None:
        self._config = config
        self.sums = (config.prior * _PRIOR_LEVEL**4, config.prior * _PRIOR_LEVEL**3)

    @property
    def scale(self) -> float:
        """What thresholds that are meant for the reference are multiplied by."""
        weighted, weights = self.sums
        level = weighted / weights if weights > 0 else 0.0
        return max(level, self._config.least) / self._config.reference

    def observe(self, scores: FloatArray, elapsed_s: float) -> None:
        """Take in the confidences of a frame.

        Args:
            scores: `(m,)` float32, in [0, 1].
            elapsed_s: Seconds since the frame before.
        """
        decay = math.exp(-elapsed_s / self._config.memory_s)
        exact = scores.astype(np.float64)
        squares = exact * exact
        self.sums = (
            self.sums[0] * decay + float(np.dot(squares, squares)),
            self.sums[1] * decay + float(np.dot(squares, exact)),
        )

"""Scales confidence thresholds to the detector: by how confident it is of clearly visible people."""

from __future__ import annotations

import math

import numpy as np

from motserve.config import ConfidenceScalingConfig
from motserve.types import FloatArray

_PRIOR_CONFIDENCE = 0.8


class ConfidenceScaling:
    """A running mean of the confidences, weighted by their third power; see `ConfidenceScalingConfig`.

    At that power the many low-confidence detections of a crowd have almost no weight.

    Args:
        config: Reference, memory and prior.

    Attributes:
        sums: Weighted sums of the confidences and of the weights.
    """

    def __init__(self, config: ConfidenceScalingConfig) -> None:
        self._config = config
        self.sums = (config.prior * _PRIOR_CONFIDENCE**4, config.prior * _PRIOR_CONFIDENCE**3)

    @property
    def scale(self) -> float:
        """Factor for thresholds that were chosen at the reference confidence."""
        weighted, weights = self.sums
        mean = weighted / weights if weights > 0 else 0.0
        return max(mean, self._config.min_level) / self._config.reference

    def observe(self, scores: FloatArray, elapsed_s: float) -> None:
        """Update the mean with the confidences of a frame.

        Args:
            scores: `(m,)` float32, in [0, 1].
            elapsed_s: Seconds since the previous frame.
        """
        decay = math.exp(-elapsed_s / self._config.memory_s)
        exact = scores.astype(np.float64)
        squares = exact * exact
        self.sums = (
            self.sums[0] * decay + float(np.dot(squares, squares)),
            self.sums[1] * decay + float(np.dot(squares, exact)),
        )

"""A segment of the track of one person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motserve.types import FloatArray


@dataclass(frozen=True, slots=True)
class Tracklet:
    """The boxes of a track between its first and last detection.

    Attributes:
        times: `(n,)` float64, rising, in seconds.
        boxes: `(n, 4)` float32, xyxy in pixels.
    """

    times: NDArray[np.float64]
    boxes: FloatArray

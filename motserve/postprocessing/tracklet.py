"""A piece of somebody's way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motserve.types import FloatArray


@dataclass(frozen=True, slots=True)
class Tracklet:
    """A track, or as much of it as was seen.

    Attributes:
        times: `(n,)` float64, rising, in seconds.
        boxes: `(n, 4)` float32, xyxy in pixels.
    """

    times: NDArray[np.float64]
    boxes: FloatArray

"""Motion models: the coordinates of a Kalman filter and the size of its noises."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motserve.config import KalmanConfig
from motserve.tracking.kalman import MAX_STEPS, KalmanFilter, Motion
from motserve.types import FloatArray

# The aspect ratio has no scale, so its noises are constants of the reference, standard deviations per step.
_ASPECT_POSITION = 1e-2
_ASPECT_VELOCITY = 1e-5
_ASPECT_MEASUREMENT = 1e-1
# A new track: the reference doubles the position noise and takes ten times the velocity noise.
_INITIAL_POSITION = 2.0
_INITIAL_VELOCITY = 10.0


class AspectFilter(KalmanFilter):
    """Centre x, centre y, height and aspect ratio (width / height): the model of DeepSORT and ByteTrack.

    The noises of x, y and h are the same multiple of the height.

    Reference: Wojke, Bewley and Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP
    2017.

    Args:
        config: The noises.
    """

    group = np.array([0, 0, 0, 1])
    size_velocity = slice(6, 7)

    def __init__(self, config: KalmanConfig) -> None:
        position, velocity = config.position_noise**2, config.velocity_noise**2
        super().__init__(
            np.array([[position, _ASPECT_POSITION**2], [velocity, _ASPECT_VELOCITY**2]]),
            np.array([position, _ASPECT_MEASUREMENT**2]),
            np.array(
                [
                    [_INITIAL_POSITION**2 * position, _ASPECT_POSITION**2],
                    [_INITIAL_VELOCITY**2 * velocity, _ASPECT_VELOCITY**2],
                ]
            ),
        )

    def measure(self, centre: FloatArray, size: FloatArray) -> FloatArray:
        """See `KalmanFilter.measure`."""
        measured = np.empty((4, centre.shape[1]), np.float32)
        measured[:2], measured[2] = centre, size[1]
        np.divide(size[0], size[1], out=measured[3])
        return measured

    def sizes(self, motion: Motion) -> NDArray[np.float64]:
        """See `KalmanFilter.sizes`."""
        size = np.array(motion[3:1:-1])
        size[0] *= size[1]
        return size

    def _scale(self, motion: Motion) -> NDArray[np.float64]:
        scale = np.empty((2, motion.shape[1]))
        np.square(motion[2], out=scale[0])
        scale[1] = 1
        return scale

    def _grow(self, motion: Motion, scale: float) -> None:
        motion[2] *= scale
        motion[6] *= scale
        motion[8::2] *= scale**2


class SizeFilter(KalmanFilter):
    """Centre x, centre y, width and height: the model of BoT-SORT.

    The noises of x and width are the same multiple of the width, those of y and height of the height.

    Reference: Aharon, Orfaig and Bobrovsky, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022.

    Args:
        config: The noises.
    """

    group = np.array([0, 1, 0, 1])
    size_velocity = slice(6, 8)

    def __init__(self, config: KalmanConfig) -> None:
        noise = np.array([[config.position_noise**2], [config.velocity_noise**2]]).repeat(2, axis=1)
        super().__init__(noise, noise[0], noise * np.array([[_INITIAL_POSITION**2], [_INITIAL_VELOCITY**2]]))

    def measure(self, centre: FloatArray, size: FloatArray) -> FloatArray:
        """See `KalmanFilter.measure`."""
        return np.concatenate([centre, size])

    def sizes(self, motion: Motion) -> NDArray[np.float64]:
        """See `KalmanFilter.sizes`."""
        return np.array(motion[2:4])

    def _scale(self, motion: Motion) -> NDArray[np.float64]:
        return np.square(motion[2:4])

    def _grow(self, motion: Motion, scale: float) -> None:
        motion[2:4] *= scale
        motion[6:8] *= scale
        motion[8:] *= scale**2


class AreaFilter(KalmanFilter):
    """Centre x, centre y, area, and aspect ratio without a velocity: the model of SORT.

    Its noises are constants in pixels and steps.

    Reference: Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016.
    """

    group = np.array([0, 0, 1, 2])
    size_velocity = slice(0, 0)

    def __init__(self) -> None:
        super().__init__(
            np.array([[1.0, 1.0, 1.0], [1e-2, 1e-4, 0.0]]),
            np.array([1.0, 10.0, 10.0]),
            np.array([[10.0, 10.0, 10.0], [1e4, 1e4, 0.0]]),
        )

    def predict(self, motion: Motion, steps: float) -> None:
        """See `KalmanFilter.predict`. Where the area would vanish, it stays."""
        vanishes = motion[2] + min(steps, MAX_STEPS) * motion[6] <= 0
        motion[6, vanishes] = 0
        super().predict(motion, steps)

    def measure(self, centre: FloatArray, size: FloatArray) -> FloatArray:
        """See `KalmanFilter.measure`."""
        measured = np.empty((4, centre.shape[1]), np.float32)
        measured[:2] = centre
        np.multiply(size[0], size[1], out=measured[2])
        np.divide(size[0], size[1], out=measured[3])
        return measured

    def sizes(self, motion: Motion) -> NDArray[np.float64]:
        """See `KalmanFilter.sizes`."""
        width = np.sqrt(motion[2] * motion[3])
        return np.stack([width, motion[2] / width])

    def _scale(self, motion: Motion) -> NDArray[np.float64]:
        return np.ones((3, motion.shape[1]))

    def _grow(self, motion: Motion, scale: float) -> None:
        motion[2] *= scale**2
        motion[6] *= scale**2
        motion[8::3] *= scale**2
        motion[9::3] *= scale**4

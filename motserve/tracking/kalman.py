"""A constant-velocity Kalman filter over all tracks at once.

The state is that of SORT's and ByteTrack's reference: centre x, centre y, height and aspect ratio (width / height),
each with a velocity. The noises of x, y and h are the same multiple of the height, and nothing couples two
coordinates, so the 8 x 8 covariance is four 2 x 2 blocks of which three are equal. Six numbers per track hold it
exactly, and a step over all tracks is a few operations on rows.

Reference: Wojke, Bewley and Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP 2017.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.config import KalmanConfig
from motserve.types import BoolArray, FloatArray

Motion: TypeAlias = NDArray[np.float64]
"""`(14, n)` float64, a column per track: rows 0-3 centre x, centre y, height (pixels), aspect ratio; rows 4-7 their
velocities per reference frame; rows 8-13 the covariance, as position variance, position-velocity covariance and
velocity variance, each first for x, y and h, then for the aspect ratio."""

ROWS = 14
HEIGHT_VELOCITY = 6

# The aspect ratio has no scale, so its noises are constants of the reference, standard deviations per step.
_ASPECT_POSITION = 1e-2
_ASPECT_VELOCITY = 1e-5
_ASPECT_MEASUREMENT = 1e-1
# A new track: the reference doubles the position noise and takes ten times the velocity noise.
_INITIAL_POSITION = 2.0
_INITIAL_VELOCITY = 10.0

_MIN_SIZE = 1e-6  # an extrapolated height or aspect ratio stays positive, so noise and area stay meaningful
_MAX_STEPS = 1e5  # an hour of reference frames: beyond it motion says nothing, and squares and cubes must stay finite

_GAIN_OF_COORDINATE = np.array([0, 0, 0, 1])


class KalmanFilter:
    """The motion model. Holds constants only; the state is passed in and changed in place.

    Args:
        config: The noises.
    """

    def __init__(self, config: KalmanConfig) -> None:
        position = config.position_noise**2
        velocity = config.velocity_noise**2
        noise = np.array([[position, velocity], [_ASPECT_POSITION**2, _ASPECT_VELOCITY**2]])
        # Noise of position, position-velocity and velocity (rows) times n, n (n - 1) / 2 and (n - 1) n (2n - 1) / 6.
        self._process = np.zeros((3, 2, 3))
        self._process[0, :, 0], self._process[0, :, 2] = noise.T
        self._process[1, :, 1] = self._process[2, :, 0] = noise[:, 1]
        self._measurement = np.array([[position], [_ASPECT_MEASUREMENT**2]])
        self._initial_position = np.array([[_INITIAL_POSITION**2 * position], [_ASPECT_POSITION**2]])
        self._initial_velocity = np.array([[_INITIAL_VELOCITY**2 * velocity], [_ASPECT_VELOCITY**2]])

    def initiate(self, measurement: NDArray[np.floating]) -> Motion:
        """Start tracks from one measurement each.

        Args:
            measurement: `(4, n)`, rows centre x, centre y, height (pixels) and aspect ratio.

        Returns:
            The motion of the new tracks: at rest, uncertain.
        """
        motion: Motion = np.zeros((ROWS, measurement.shape[1]))
        motion[:4] = measurement
        scale = _noise_scale(motion)
        motion[8:10] = scale * self._initial_position
        motion[12:14] = scale * self._initial_velocity
        return motion

    def predict(self, motion: Motion, steps: float) -> None:
        """Move tracks forward in time, in place.

        For a whole number of steps the result is that of as many single steps of the reference, with the noise of
        the height at the start; in between, the covariance is that of the continuous process through these points.
        Heights stay positive.

        Args:
            motion: The tracks to move.
            steps: Reference frames to advance, above 0; need not be whole. Counts as 100,000 at most.
        """
        n = min(steps, _MAX_STEPS)
        # P <- F^n P F^n' + the sum of F^k Q F^k' for k = 0 .. n - 1, with F = [[1, 1], [0, 1]] in each block.
        sums = np.array([n, n * (n - 1) / 2, (n - 1) * n * (2 * n - 1) / 6])
        noise = np.dot(self._process, sums)[:, :, None] * _noise_scale(motion)
        covariance = motion[8:].reshape(3, 2, -1)
        position, cross, velocity = covariance
        drift = n * velocity
        spread = 2 * cross
        spread += drift
        spread *= n
        position += spread
        cross += drift
        covariance += noise
        motion[:4] += n * motion[4:8]
        np.maximum(motion[2:4], _MIN_SIZE, out=motion[2:4])

    def update(self, motion: Motion, measurement: NDArray[np.floating], matched: BoolArray) -> None:
        """Correct tracks by what was measured, in place.

        Args:
            motion: The tracks, already predicted.
            measurement: `(4, n)`, a column per track; what stands under an unmatched track has no effect but must
                be finite.
            matched: `(n,)`, True where the track has a measurement. The others stay as they are.
        """
        coordinates, velocity = motion[:8].reshape(2, 4, -1), motion[12:14]
        covariance = motion[8:12].reshape(2, 2, -1)
        innovation_variance = _noise_scale(motion) * self._measurement
        innovation_variance += covariance[0]
        # The gains of position and velocity; zero for the unmatched, which saves gathering and scattering columns.
        gains = covariance / innovation_variance
        gains *= matched
        innovation = measurement - coordinates[0]
        correction = gains.take(_GAIN_OF_COORDINATE, axis=1)
        correction *= innovation
        coordinates += correction
        np.maximum(motion[2:4], _MIN_SIZE, out=motion[2:4])
        velocity -= gains[1] * covariance[1]
        covariance -= gains[0] * covariance


def to_boxes(motion: Motion) -> FloatArray:
    """Return the boxes of tracks.

    Args:
        motion: The tracks.

    Returns:
        `(4, n)` float32, contiguous, rows left, top, right, bottom, in pixels.
    """
    size = motion[3:1:-1].copy()
    size[0] *= size[1]
    corners = np.empty((4, motion.shape[1]))
    np.subtract(motion[:2], size / 2, out=corners[:2])
    np.add(corners[:2], size, out=corners[2:])
    return corners.astype(np.float32)


def _noise_scale(motion: Motion) -> NDArray[np.float64]:
    """Return `(2, n)`: the square of the height that scales the noise of x, y and h, and 1 for the aspect ratio."""
    scale = np.empty((2, motion.shape[1]))
    np.square(motion[2], out=scale[0])
    scale[1] = 1
    return scale

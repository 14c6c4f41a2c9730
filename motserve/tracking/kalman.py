"""A constant-velocity Kalman filter over all tracks at once; the models in `motion` define its coordinates.

The state is four coordinates, each with a velocity. No two coordinates are coupled, and some share their noises, so
the 8 x 8 covariance is four 2 x 2 blocks, equal within a group. Three numbers per group and track hold it exactly,
and a step over all tracks is a few operations on rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.types import BoolArray, FloatArray

Motion: TypeAlias = NDArray[np.float64]
"""`(8 + 3 g, n)` float64, a column per track: rows 0-3 the coordinates; rows 4-7 their velocities per reference frame;
then the covariance, as position variance, position-velocity covariance and velocity variance, each of all g groups."""

_COORDINATES = 4

_MIN_SIZE = 1e-6  # an extrapolated size or aspect ratio stays positive, so noise and area stay meaningful
MAX_STEPS = 1e5  # an hour of reference frames: beyond it predictions are useless, and cubes must stay finite


class KalmanFilter(ABC):
    """A motion model. Holds constants only; the state is passed in and changed in place.

    Args:
        process: `(2, g)`, variances of position and velocity per step, before scaling.
        measurement: `(g,)`, variance of a measurement, before scaling.
        initial: `(2, g)`, variances of position and velocity of a new track, before scaling.

    Attributes:
        size_velocity: Rows of the velocities of size. A lost track's are set to zero: an old trend would inflate it.
    """

    group: ClassVar[NDArray[np.int64]]
    """`(4,)` int64, group of each coordinate."""

    size_velocity: ClassVar[slice]

    def __init__(
        self, process: NDArray[np.float64], measurement: NDArray[np.float64], initial: NDArray[np.float64]
    ) -> None:
        position, velocity = process
        # Noise of position, position-velocity and velocity (rows) times n, n (n - 1) / 2 and (n - 1) n (2n - 1) / 6.
        self._process = np.zeros((3, len(position), 3))
        self._process[0, :, 0], self._process[0, :, 2] = position, velocity
        self._process[1, :, 1] = self._process[2, :, 0] = velocity
        self._measurement = measurement[:, None]
        self._initial = initial[:, :, None]
        self._groups = len(measurement)

    @property
    def rows(self) -> int:
        """Rows of a `Motion`."""
        return 2 * _COORDINATES + 3 * self._groups

    @abstractmethod
    def measure(self, centre: FloatArray, size: FloatArray) -> FloatArray:
        """Return the coordinates of boxes.

        Args:
            centre: `(2, m)` float32, x and y in pixels.
            size: `(2, m)` float32, width and height in pixels.

        Returns:
            `(4, m)` float32.
        """

    @abstractmethod
    def sizes(self, motion: Motion) -> NDArray[np.float64]:
        """Return a new `(2, n)` float64: width and height of each track in pixels."""

    @abstractmethod
    def _scale(self, motion: Motion) -> NDArray[np.float64]:
        """Return `(g, n)`: the factor on the variances of each group."""

    def boxes(self, motion: Motion) -> FloatArray:
        """Return the boxes of tracks.

        Returns:
            `(4, n)` float32, contiguous, rows left, top, right, bottom, in pixels.
        """
        size = self.sizes(motion)
        corners = np.empty((4, motion.shape[1]))
        np.subtract(motion[:2], size / 2, out=corners[:2])
        np.add(corners[:2], size, out=corners[2:])
        return corners.astype(np.float32)

    def initiate(self, measurement: NDArray[np.floating]) -> Motion:
        """Start tracks from one measurement each.

        Args:
            measurement: `(4, n)`, as `measure` returns them.

        Returns:
            The motion of the new tracks: at rest, uncertain.
        """
        motion: Motion = np.zeros((self.rows, measurement.shape[1]))
        motion[:4] = measurement
        covariance = motion[8:].reshape(3, self._groups, -1)
        covariance[::2] = self._scale(motion) * self._initial
        return motion

    def predict(self, motion: Motion, steps: float) -> None:
        """Move tracks forward in time, in place.

        For a whole number of steps the result is that of as many single steps of the reference, with the noise of
        the size at the start; in between, the covariance is that of the continuous process through these points.
        Sizes stay positive.

        Args:
            motion: The tracks to move.
            steps: Reference frames to advance, above 0; need not be whole. Counts as 100,000 at most.
        """
        n = min(steps, MAX_STEPS)
        # P <- F^n P F^n' + the sum of F^k Q F^k' for k = 0 .. n - 1, with F = [[1, 1], [0, 1]] in each block.
        sums = np.array([n, n * (n - 1) / 2, (n - 1) * n * (2 * n - 1) / 6])
        noise = np.dot(self._process, sums)[:, :, None] * self._scale(motion)
        covariance = motion[8:].reshape(3, self._groups, -1)
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

    def update(
        self,
        motion: Motion,
        measurement: NDArray[np.floating],
        matched: BoolArray,
        trust: NDArray[np.floating] | None = None,
    ) -> None:
        """Correct tracks by measurements, in place.

        Args:
            motion: The tracks, already predicted.
            measurement: `(4, n)`, a column per track; the column of an unmatched track has no effect but must be
                finite.
            matched: `(n,)`, True where the track has a measurement. The others do not change.
            trust: `(n,)`, factor on the variance of each measurement, from 0; None for 1.
        """
        groups = self._groups
        coordinates = motion[:8].reshape(2, 4, -1)
        covariance, velocity = motion[8 : 8 + 2 * groups].reshape(2, groups, -1), motion[8 + 2 * groups :]
        innovation_variance = self._scale(motion) * self._measurement
        if trust is not None:
            innovation_variance *= trust
        innovation_variance += covariance[0]
        # The gains of position and velocity; zero for the unmatched, which saves gathering and scattering columns.
        gains = covariance / innovation_variance
        gains *= matched
        innovation = measurement - coordinates[0]
        correction = gains.take(self.group, axis=1)
        correction *= innovation
        coordinates += correction
        np.maximum(motion[2:4], _MIN_SIZE, out=motion[2:4])
        velocity -= gains[1] * covariance[1]
        covariance -= gains[0] * covariance

    def distance(
        self, motion: Motion, measurement: NDArray[np.floating], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the squared Mahalanobis distance between tracks and measurements.

        Args:
            motion: The tracks, already predicted.
            measurement: `(4, m)`, as `measure` returns them.
            rows: `(k,)` int64, the track of each pair.
            columns: `(k,)` int64, the measurement of each pair.

        Returns:
            `(k,)` float64; with a correct model 95 % of correct pairs lie below 9.488.
        """
        variance = motion[8 : 8 + self._groups] + self._scale(motion) * self._measurement
        innovation = measurement.take(columns, axis=1) - motion[:4].take(rows, axis=1)
        squares: NDArray[np.float64] = np.square(innovation) / variance.take(self.group, axis=0).take(rows, axis=1)
        return np.asarray(squares.sum(axis=0), np.float64)

    def warp(self, motion: Motion, matrix: NDArray[np.float64]) -> None:
        """Move tracks along with the picture to compensate camera motion, in place.

        Sizes grow by the scale of the warp and keep their shape. Rotation changes no variance, as those of x and y
        are (nearly) the same.

        Args:
            motion: The tracks.
            matrix: `(2, 3)`, affine map from pixels of the previous frame to pixels of this one.
        """
        linear, shift = matrix[:, :2], matrix[:, 2:]
        scale = float(np.sqrt(abs(np.linalg.det(linear))))
        motion[:2] = linear @ motion[:2] + shift
        motion[4:6] = linear @ motion[4:6]
        self._grow(motion, scale)
        np.maximum(motion[2:4], _MIN_SIZE, out=motion[2:4])

    @abstractmethod
    def _grow(self, motion: Motion, scale: float) -> None:
        """Multiply sizes, their velocities, and the variances of positions and sizes by a scale of pixels."""

"""The camera: projection of floor points to the picture, and camera shake."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes.config import SceneConfig

Array = NDArray[np.float64]

REFERENCE_HEIGHT_M = 1.7
"""Body height to which `far_height` and `near_height` refer."""

NEAR_FEET = 0.96
"""Row of the feet of the nearest people, as a fraction of the picture's height: just inside the picture."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera that looks horizontally over a flat floor.

    Floor coordinates are metres: `x` to the right of the optical axis, `z` away from the camera.

    Attributes:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        focal: Focal length in pixels.
        horizon: Row of the horizon in pixels; may lie outside the picture.
        elevation: Height of the camera above the floor in metres.
        near: Distance of the nearest people in metres.
        far: Distance of the farthest people in metres.
    """

    width: int
    height: int
    focal: float
    horizon: float
    elevation: float
    near: float
    far: float

    @classmethod
    def of(cls, config: SceneConfig) -> Camera:
        """Build the camera that shows the nearest and farthest people at the configured heights."""
        height = config.height
        ratio = config.near_height / config.far_height
        near_row = NEAR_FEET * height
        # The farther the far people are, the higher up in the picture they stand.
        far_row = height * (NEAR_FEET - 0.38 * (1 - 1 / ratio) ** 0.8)
        horizon = (ratio * far_row - near_row) / (ratio - 1)
        elevation = REFERENCE_HEIGHT_M * (near_row - horizon) / (config.near_height * height)
        focal = 1.25 * max(config.width, height)
        return cls(
            config.width,
            height,
            focal,
            horizon,
            elevation,
            focal * elevation / (near_row - horizon),
            focal * elevation / (far_row - horizon),
        )

    def project(self, x: float, z: float) -> tuple[float, float, float]:
        """Project a point of the floor.

        Returns:
            Column and row in pixels, and the scale there in pixels per metre.
        """
        scale = self.focal / z
        return self.width / 2 + scale * x, self.horizon + scale * self.elevation, scale

    def tilt(self, z: float) -> float:
        """Return the angle in radians at which the camera looks down on the floor at distance `z`."""
        return math.atan2(self.elevation, z)

    def half_width(self, z: float) -> float:
        """Return half the width of the visible floor at distance `z`, in metres."""
        return z * self.width / 2 / self.focal


@dataclass(frozen=True, slots=True)
class Shake:
    """A smooth, small movement of the camera: a sum of slow waves.

    Attributes:
        amplitudes: `(3, k)` amplitude of each wave: columns and rows in pixels, rotation in radians.
        frequencies: `(3, k)` in Hz.
        phases: `(3, k)` in radians.
        centre: Column and row in pixels about which the picture rotates.
    """

    amplitudes: Array
    frequencies: Array
    phases: Array
    centre: tuple[float, float]

    @classmethod
    def of(cls, config: SceneConfig, rng: np.random.Generator) -> Shake:
        """Draw random waves; their sum never exceeds the configured displacement and rotation."""
        weights = rng.uniform(0.5, 1.0, (3, 3)) * (1.0, 0.6, 0.3)
        weights /= weights.sum(axis=1, keepdims=True)
        largest = np.array([config.shake * config.height] * 2 + [math.radians(config.shake_degrees)])
        frequencies = rng.uniform(0.7, 1.3, (3, 3)) * (0.35, 1.1, 2.6)
        phases = rng.uniform(0, 2 * math.pi, (3, 3))
        return cls(weights * largest[:, None], frequencies, phases, (config.width / 2, config.height / 2))

    @property
    def margin(self) -> int:
        """Pixels by which the backdrop must be larger than the picture on each side."""
        column, row, angle = self.amplitudes.sum(axis=1).tolist()
        return int(max(column, row) + angle * math.hypot(*self.centre)) + 2

    def at(self, time: float) -> Array:
        """Return the `(2, 3)` affine map from the still picture to the shaken one at a time in seconds."""
        waves = np.sin(2 * math.pi * self.frequencies * time + self.phases)
        column, row, angle = (self.amplitudes * waves).sum(axis=1)
        cosine, sine = math.cos(angle), math.sin(angle)
        x, y = self.centre
        return np.array(
            [[cosine, -sine, x - cosine * x + sine * y + column], [sine, cosine, y - sine * x - cosine * y + row]]
        )

"""The shape of a walking body: limbs as tapered capsules, trunk and head as stacks of ellipses.

Body coordinates `(left, up, forward)` are in metres from the feet, as the person sees them. A view projects them onto
the picture plane: column to the right, row down, both in metres, and the depth toward the camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STRIDE_PER_HEIGHT = 0.82
"""Length of a full gait cycle (two steps) as a multiple of body height at a normal walk."""

ARC = np.linspace(0, math.pi, 6)
QUARTER = math.pi / 2


@dataclass(frozen=True, slots=True)
class Pose:
    """Posture of a person at one moment.

    Attributes:
        heading: Direction in radians: 0 toward the camera, positive to the right of the picture.
        phase: Phase of the gait in radians.
        stride: 0 standing, 1 a normal walk.
    """

    heading: float
    phase: float
    stride: float


@dataclass(frozen=True, slots=True)
class View:
    """Projection of body coordinates for one heading and one tilt of the camera.

    Attributes:
        toward: `(3,)` horizontal direction to the camera in body coordinates.
        plane: `(3, 2)` matrix from body coordinates to columns and rows in metres from the feet.
    """

    toward: Array
    plane: Array

    @classmethod
    def of(cls, heading: float, tilt: float) -> View:
        """Return the view of a person with a heading from a camera that is tilted down, both angles in radians."""
        sine, cosine = math.sin(heading), math.cos(heading)
        down = math.sin(tilt)
        toward = np.array([-sine, 0.0, cosine])
        return cls(toward, np.array([[cosine, -sine * down], [0.0, -math.cos(tilt)], [sine, cosine * down]]))

    def depth(self, points: Array) -> Array:
        """Return the depth of points `(..., 3)` toward the camera, in metres."""
        return np.asarray(points @ self.toward)

    def project(self, points: Array) -> Array:
        """Return columns and rows `(..., 2)` of points `(..., 3)`, in metres from the feet."""
        return np.asarray(points @ self.plane)


@dataclass(frozen=True, slots=True)
class Surface:
    """A stack of upright ellipses: trunk, skirt, head, bag.

    Attributes:
        up: `(k,)` height of each row in metres, ascending.
        across: `(k,)` half axis to the left and right.
        along: `(k,)` half axis to the front and back.
        centre: `(k, 2)` centre of each row as (left, forward).
    """

    up: Array
    across: Array
    along: Array
    centre: Array

    @classmethod
    def of(cls, rows: Array, left: float = 0.0, forward: float = 0.0, steps: int = 11) -> Surface:
        """Interpolate a surface from `(n, 3)` rows of (up, across, along)."""
        up = np.linspace(rows[0, 0], rows[-1, 0], steps)
        across, along = (np.interp(up, rows[:, 0], rows[:, i]) for i in (1, 2))
        return cls(up, across, along, np.full((steps, 2), (left, forward)))

    def points(self, angles: Array) -> Array:
        """Return the points `(k, 3)` at one angle per row; 0 is left, a quarter turn the front."""
        points = np.empty((len(self.up), 3))
        points[:, 0] = self.centre[:, 0] + self.across * np.cos(angles)
        points[:, 1] = self.up
        points[:, 2] = self.centre[:, 1] + self.along * np.sin(angles)
        return points

    def middle(self, view: View) -> Array:
        """Return the angle `(k,)` of the point nearest to the camera; a quarter turn to either side is its outline."""
        return np.asarray(np.arctan2(view.toward[2] * self.across, view.toward[0] * self.along))

    def patch(self, view: View, start: float, end: float, bottom: float = 0.0, top: float = 1.0) -> Array | None:
        """Return the outline of the visible part of a patch, `(n, 2)` in the picture plane.

        Args:
            view: Direction from which the camera sees it.
            start: First angle in radians.
            end: Last angle; a patch of a full turn or more is the whole surface.
            bottom: Lower edge as a fraction of the rows.
            top: Upper edge.

        Returns:
            The polygon, or None if the patch is not visible.
        """
        count = len(self.up)
        first, last = round(bottom * (count - 1)), round(top * (count - 1))
        rows = slice(first, max(last, first + 1) + 1)
        middle = self.middle(view)
        low, high = middle - QUARTER, middle + QUARTER
        if end - start < 2 * math.pi:
            turn = 2 * math.pi * round((middle[rows].mean() - (start + end) / 2) / (2 * math.pi))
            low, high = np.maximum(low, start + turn), np.minimum(high, end + turn)
            if (low[rows] >= high[rows]).any():
                return None
        right, left = self.points(low)[rows], self.points(high)[rows]
        return view.project(np.concatenate([right, left[::-1]]))


@dataclass(frozen=True, slots=True)
class Limbs:
    """The joints of arms and legs, each `(2, 3)`: left, then right."""

    hip: Array
    knee: Array
    ankle: Array
    toe: Array
    shoulder: Array
    elbow: Array
    wrist: Array
    hand: Array
    bob: float


def walk(height: float, build: float, pose: Pose, freedom: float = 1.0) -> Limbs:
    """Compute the joints of a walking person.

    Args:
        height: Body height in metres.
        build: Width of the body; 1 is average.
        pose: Heading and phase of the gait.
        freedom: Share of a free leg swing that the clothes permit, in [0, 1].
    """
    side = np.array([1.0, -1.0])
    phase = pose.phase + np.array([0.0, math.pi])
    stride = pose.stride * freedom
    swing = math.radians(26) * stride * np.sin(phase)
    lift = np.maximum(np.cos(phase), 0) ** 1.5 * stride
    knee_bend = math.radians(4) + math.radians(52) * lift
    hip = _at(0.062 * build * side, 0.52, np.zeros(2))
    knee = hip + 0.245 * _down(swing)
    ankle = knee + 0.235 * _down(swing - knee_bend)
    bob = 0.04 - float(ankle[:, 1].min())
    pitch = swing - 0.75 * knee_bend - 0.25 * np.minimum(swing, 0)
    toe = ankle + np.stack([0.012 * side, -0.018 + 0.09 * np.sin(pitch), 0.115 * np.cos(pitch)], axis=1)
    shoulder = _at((0.106 * build + 0.004) * side, 0.788, np.zeros(2))
    arm = -0.9 * swing + math.radians(2)
    bend = math.radians(14) + math.radians(22) * pose.stride * np.maximum(np.sin(phase + math.pi), 0)
    splay = np.stack([0.022 * side, np.zeros(2), np.zeros(2)], axis=1)
    elbow = shoulder + 0.165 * _down(arm) + splay
    wrist = elbow + 0.15 * _down(arm + bend) - 0.3 * splay
    hand = wrist + 0.045 * _down(arm + bend)
    rise = np.array([0.0, bob, 0.0])

    def to_metres(joint: Array) -> Array:
        return np.asarray(height * (joint + rise))

    return Limbs(
        to_metres(hip),
        to_metres(knee),
        to_metres(ankle),
        to_metres(toe),
        to_metres(shoulder),
        to_metres(elbow),
        to_metres(wrist),
        to_metres(hand),
        height * bob,
    )


def capsules(starts: Array, ends: Array, start_radii: Array, end_radii: Array) -> Array:
    """Return the outlines `(n, 12, 2)` of tapered capsules between points `(n, 2)` of the picture plane."""
    axis = ends - starts
    angle = np.arctan2(axis[:, 1], axis[:, 0])[:, None]
    back, front = angle + QUARTER + ARC, angle - QUARTER + ARC
    outline = np.empty((len(starts), 2 * len(ARC), 2))
    outline[:, :, 0] = np.cos(np.concatenate([back, front], axis=1))
    outline[:, :, 1] = np.sin(np.concatenate([back, front], axis=1))
    outline[:, : len(ARC)] *= start_radii[:, None, None]
    outline[:, len(ARC) :] *= end_radii[:, None, None]
    outline[:, : len(ARC)] += starts[:, None]
    outline[:, len(ARC) :] += ends[:, None]
    return outline


def _at(left: Array, up: float, forward: Array) -> Array:
    return np.stack([left, np.full(2, up), forward], axis=1)


def _down(angle: Array) -> Array:
    """Return unit vectors that point down, rotated forward by an angle in radians."""
    return np.stack([np.zeros(2), -np.cos(angle), np.sin(angle)], axis=1)

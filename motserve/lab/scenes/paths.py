"""Plans the walking paths of all people; a path can be evaluated at any time without the frames before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motserve.lab.scenes.body import STRIDE_PER_HEIGHT, Pose
from motserve.lab.scenes.camera import Array, Camera
from motserve.lab.scenes.clothing import PersonAppearance
from motserve.lab.scenes.config import SceneConfig
from motserve.lab.scenes.cutout import Cutout
from motserve.lab.scenes.stage import Placement

OUTSIDE_M = 0.95
"""Distance beyond the picture edge at which a visit begins and ends; enough for arms, bags and camera shake."""

SMOOTHING_S = 0.32
"""Positions are averaged over this time before and after, so that people do not turn or stop abruptly."""

NORMAL_SPEED = 1.25
"""Walking speed in metres per second at which a stride has its full length."""

OFFSETS = np.linspace(-SMOOTHING_S, SMOOTHING_S, 7)


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay in the picture: straight segments between points, some with a pause.

    Attributes:
        times: `(k,)` seconds, ascending.
        points: `(k, 2)` position on the floor in metres, `(x, z)`.
        walked: `(k,)` metres walked since the start.
    """

    times: Array
    points: Array
    walked: Array

    def place(self, appearance: PersonAppearance | Cutout, time: float) -> Placement:
        """Return position and pose of the person at a time within the visit."""
        around = time + OFFSETS
        x, z = (np.interp(around, self.times, self.points[:, axis]) for axis in (0, 1))
        walked = np.interp(around, self.times, self.walked)
        speed = (walked[-1] - walked[0]) / (around[-1] - around[0])
        stride = min(1.15, math.sqrt(max(speed, 0.0) / NORMAL_SPEED))
        phase = 2 * math.pi * walked.mean() / (STRIDE_PER_HEIGHT * appearance.height)
        return Placement(appearance, float(x.mean()), float(z.mean()), Pose(self._heading(time), float(phase), stride))

    def _heading(self, time: float) -> float:
        """Return the smoothed direction of walking; a standing person keeps the last direction."""
        moving = np.diff(self.walked) > 0
        steps = np.diff(self.points, axis=0)
        segments = np.clip(np.searchsorted(self.times, time + OFFSETS, side="right") - 1, 0, len(steps) - 1)
        while not moving[segments].all():
            segments = np.where(moving[segments], segments, segments - 1)
        mean = (steps[segments] / np.linalg.norm(steps[segments], axis=1, keepdims=True)).mean(axis=0)
        if np.hypot(*mean) < 1e-3:
            mean = steps[segments[-1]]
        return math.atan2(mean[0], -mean[1])


@dataclass(frozen=True, slots=True)
class Person:
    """One identity: its appearance and its visits, in order of time and without overlap."""

    id: int
    appearance: PersonAppearance | Cutout
    visits: tuple[Visit, ...]

    def at(self, time: float) -> Placement | None:
        """Return position and pose of the person, or None while they are outside the picture."""
        for visit in self.visits:
            if visit.times[0] <= time <= visit.times[-1]:
                return visit.place(self.appearance, time)
        return None


def plan(
    config: SceneConfig, camera: Camera, appearances: Sequence[PersonAppearance | Cutout], rng: np.random.Generator
) -> list[Person]:
    """Plan the visits of all people.

    Args:
        config: Length of the clip and behaviour of the people.
        camera: The camera; it decides which part of the floor is in the picture.
        appearances: Appearance of each identity.
        rng: Source of randomness.

    Returns:
        One person per appearance; identities count from 1.
    """
    returners = round(config.returning * len(appearances))
    return [
        Person(i + 1, appearance, _visits(config, camera, i < returners, rng))
        for i, appearance in enumerate(appearances)
    ]


def _visits(config: SceneConfig, camera: Camera, returns: bool, rng: np.random.Generator) -> tuple[Visit, ...]:
    duration = config.duration_s
    start = rng.uniform(-4.0, 0.08 * duration) if returns else rng.uniform(-4.0, 0.7 * duration)
    speed = float(np.clip(rng.normal(NORMAL_SPEED, 0.15), 0.8, 1.8))
    side = float(rng.choice([-1, 1]))
    visits: list[Visit] = []
    while start < duration:
        visit, side = _visit(config, camera, start, side, speed, rng)
        visits.append(visit)
        if not returns:
            break
        start = float(visit.times[-1]) + rng.uniform(config.absence_min_s, config.absence_max_s)
    return tuple(visits)


def _visit(
    config: SceneConfig, camera: Camera, start: float, side: float, speed: float, rng: np.random.Generator
) -> tuple[Visit, float]:
    """Plan one visit that begins on a side (-1 left, 1 right); return it with the side it ends on."""
    entry = _edge(camera, side, rng)
    turns = rng.random() < config.turning
    leave = side if turns else -side
    points = [entry]
    pauses = [0.0]
    if turns or rng.random() < config.stopping:
        depth = rng.uniform(camera.near, camera.far)
        reach = camera.half_width(depth) * (rng.uniform(-0.2, 0.7) * -side if turns else rng.uniform(-0.6, 0.6))
        points.append((reach, depth))
        pauses.append(rng.uniform(0.8, 2.2) if rng.random() < config.stopping else 0.0)
    points.append(_edge(camera, leave, rng))
    pauses.append(0.0)
    times, positions, walked = [start], [points[0]], [0.0]
    for before, after, pause in zip(points, points[1:], pauses[1:], strict=False):
        length = math.dist(before, after)
        times.append(times[-1] + length / speed)
        positions.append(after)
        walked.append(walked[-1] + length)
        if pause:
            times.append(times[-1] + pause)
            positions.append(after)
            walked.append(walked[-1])
    return Visit(np.array(times), np.array(positions), np.array(walked)), leave


def _edge(camera: Camera, side: float, rng: np.random.Generator) -> tuple[float, float]:
    depth = rng.uniform(camera.near, camera.far)
    return side * (camera.half_width(depth) + OUTSIDE_M), depth

"""Synthetic detections of a crowd, with misses, low scores and false alarms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motserve.types import Detections

_ASPECT = 0.4  # width / height of a walking person
_WANDER = 0.02  # change of velocity per frame, as a fraction of the top speed
_PIXEL_NOISE = 0.01  # standard deviation of a detected edge, as a fraction of the height


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Settings of a synthetic stream.

    Attributes:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        shortest: Height of the farthest person in pixels.
        tallest: Height of the nearest person in pixels.
        speed: Top speed in pixels per frame.
        missed: Share of people without a detection in a frame, in [0, 1].
        unsure: Share of detections with a low score, in [0, 1].
        false_alarms: False detections per person and frame, on average.
    """

    width: int = 1920
    height: int = 1080
    shortest: float = 80.0
    tallest: float = 240.0
    speed: float = 4.0
    missed: float = 0.05
    unsure: float = 0.1
    false_alarms: float = 0.05


def crowd_stream(people: int, frames: int, seed: int, settings: StreamSettings = StreamSettings()) -> list[Detections]:
    """Generate the detections of people who walk across each other.

    Args:
        people: People in the picture, at least 0.
        frames: Length of the stream, at least 0.
        seed: Seed of the randomness; the same seed gives the same stream.
        settings: Settings of the stream.

    Returns:
        The detections of each frame, best score first.

    Example:
        >>> [len(detections) > 0 for detections in crowd_stream(people=5, frames=2, seed=0)]
        [True, True]
    """
    random = np.random.default_rng(seed)
    extent = np.array([settings.width, settings.height], np.float64)
    centre = random.uniform(0, 1, (people, 2)) * extent
    velocity = random.uniform(-settings.speed, settings.speed, (people, 2))
    size = _sizes(random, people, settings)
    stream = []
    for _ in range(frames):
        velocity += random.normal(0, _WANDER * settings.speed, velocity.shape)
        centre += velocity
        outside = (centre < 0) | (centre > extent)
        velocity[outside] *= -1
        np.clip(centre, 0, extent, out=centre)
        stream.append(_detect(random, centre, size, extent, settings))
    return stream


def _sizes(random: np.random.Generator, count: int, settings: StreamSettings) -> NDArray[np.float64]:
    height = random.uniform(settings.shortest, settings.tallest, count)
    return np.stack([_ASPECT * height, height], axis=1)


def _detect(
    random: np.random.Generator,
    centre: NDArray[np.float64],
    size: NDArray[np.float64],
    extent: NDArray[np.float64],
    settings: StreamSettings,
) -> Detections:
    is_detected = random.random(len(centre)) >= settings.missed
    centre, size = centre[is_detected], size[is_detected]
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    boxes += random.normal(0, 1, boxes.shape) * (_PIXEL_NOISE * size[:, 1:])
    unsure = random.random(len(boxes)) < settings.unsure
    scores = np.where(unsure, random.uniform(0.1, 0.5, len(boxes)), random.uniform(0.6, 0.95, len(boxes)))

    false = random.poisson(settings.false_alarms * len(boxes))
    false_centre, false_size = random.uniform(0, 1, (false, 2)) * extent, _sizes(random, false, settings)
    boxes = np.concatenate([boxes, np.concatenate([false_centre - false_size / 2, false_centre + false_size / 2], 1)])
    scores = np.concatenate([scores, random.uniform(0.1, 0.8, false)])
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order].astype(np.float32), scores[order].astype(np.float32), np.zeros(len(order), np.int64))

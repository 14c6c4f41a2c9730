"""Composes backdrop, people and occluders into one picture, and measures the visibility of each person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes import backdrop, occluders
from motserve.lab.scenes.body import Pose
from motserve.lab.scenes.camera import Array, Camera, Shake
from motserve.lab.scenes.clothing import PersonAppearance
from motserve.lab.scenes.config import SceneConfig
from motserve.lab.scenes.cutout import Cutout, draw_cutout
from motserve.lab.scenes.figure import SOLID, Sprite, draw_person
from motserve.types import FloatArray, Image

SHADOW_REDUCTION = 4
"""Shadows are soft: they are drawn this many times smaller."""

STILL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, slots=True)
class Placement:
    """One person at one moment: appearance, position on the floor in metres, and pose."""

    appearance: PersonAppearance | Cutout
    x: float
    z: float
    pose: Pose


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture and its labels; rows are in the order of the placements.

    Attributes:
        image: `(height, width, 3)` uint8 BGR.
        boxes: `(n, 4)` float32 xyxy in pixels, the whole body, also where it is occluded or outside the picture.
        visibility: `(n,)` float32 in [0, 1], visible share of the body's pixels.
    """

    image: Image
    boxes: FloatArray
    visibility: FloatArray


class Stage:
    """Backdrop, occluders, light and camera of a scene. It has no changing state.

    Args:
        config: The scene; its settings of people are not used here.
        place: Photo to use as backdrop instead of a painted one, uint8 BGR; resized as needed.
    """

    def __init__(self, config: SceneConfig, place: Image | None = None) -> None:
        # One generator per part: one more pillar does not change the floor.
        paint, things, waves, grade, grain = (np.random.default_rng([config.seed, concern]) for concern in range(5))
        self.camera = Camera.of(config)
        self.shake = Shake.of(config, waves)
        self._seed = config.seed
        self._margin = self.shake.margin
        if place is None:
            self._backdrop = backdrop.paint(self.camera, self._margin, paint)
        else:
            size = (config.width + 2 * self._margin, config.height + 2 * self._margin)
            self._backdrop = np.asarray(cv2.resize(place, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._things = [occluders.pillar(self.camera, self._margin, things) for _ in range(config.pillars)]
        for _ in range(config.furniture):
            build = occluders.bench if things.random() < 0.5 else occluders.planter
            self._things.append(build(self.camera, things))
        self._table = _grade(config.exposure, grade)
        self._noise = _Noise(config, grain) if config.noise else None

    def shoot(self, placements: Sequence[Placement], motion: Array = STILL, key: int = 0) -> Shot:
        """Take one picture.

        Args:
            placements: The people.
            motion: `(2, 3)` affine map from the picture of a still camera to this one.
            key: Seed of the sensor noise; use another one for each frame.
        """
        camera = self.camera
        image = self._background(motion)
        feet = [camera.project(person.x, person.z) for person in placements]
        _shadows(image, feet, motion)
        people = [
            _draw(person, camera.tilt(person.z), _compose(motion, x, y, scale))
            for person, (x, y, scale) in zip(placements, feet, strict=True)
        ]
        layers = [
            (person.z, index, sprite) for index, (person, sprite) in enumerate(zip(placements, people, strict=True))
        ]
        layers += [(thing.depth, -1, _moved(thing, motion)) for thing in self._things]
        layers.sort(key=lambda layer: layer[0])
        for _, _, sprite in reversed(layers):
            _paste(image, sprite)
        visibility = np.zeros(len(placements), np.float32)
        covered = np.zeros(image.shape[:2], np.uint8)
        for _, index, sprite in layers:
            visible_share = _cover(covered, sprite)
            if index >= 0:
                visibility[index] = visible_share
        image = np.asarray(cv2.LUT(image, self._table), np.uint8)
        if self._noise:
            self._noise.add(image, np.random.default_rng([self._seed, 5, key]))
        boxes = np.array([sprite.box for sprite in people], np.float32).reshape(-1, 4)
        return Shot(image, boxes, visibility)

    def _background(self, motion: Array) -> Image:
        margin = self._margin
        size = (self.camera.width, self.camera.height)
        if motion is STILL:
            return np.array(self._backdrop[margin : margin + size[1], margin : margin + size[0]])
        return _warp(self._backdrop, motion, -margin, -margin, (0, 0), size, cv2.BORDER_REPLICATE)


class _Noise:
    """Sensor noise from a precomputed pattern, shifted at random: drawing new normal numbers per frame is too slow."""

    MAX_SHIFT = 61

    def __init__(self, config: SceneConfig, rng: np.random.Generator) -> None:
        shape = (config.height + self.MAX_SHIFT, config.width + self.MAX_SHIFT, 3)
        grain = np.rint(rng.normal(0, config.noise, shape))
        self._up = np.clip(grain, 0, 255).astype(np.uint8)
        self._down = np.clip(-grain, 0, 255).astype(np.uint8)

    def add(self, image: Image, rng: np.random.Generator) -> None:
        height, width = image.shape[:2]
        for bank, apply in ((self._up, cv2.add), (self._down, cv2.subtract)):
            y, x = rng.integers(0, self.MAX_SHIFT, 2)
            apply(image, bank[y : y + height, x : x + width], dst=image)


def _grade(exposure: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a `(1, 256, 3)` lookup table for brightness, contrast and tint of the picture."""
    levels = np.arange(256) / 255
    gamma, tint = rng.uniform(0.88, 1.14), rng.uniform(0.95, 1.05, 3)
    table = np.stack([np.clip(exposure * channel * levels**gamma, 0, 1) for channel in tint], axis=-1)
    return np.asarray(np.rint(table * 255)[None], np.uint8)


def _draw(person: Placement, tilt: float, placement: Array) -> Sprite:
    if isinstance(person.appearance, Cutout):
        return draw_cutout(person.appearance, person.pose, placement)
    return draw_person(person.appearance, person.pose, tilt, placement)


def _compose(motion: Array, x: float, y: float, scale: float) -> Array:
    placement = np.empty((2, 3))
    placement[:, :2] = motion[:, :2] * scale
    placement[:, 2] = motion[:, :2] @ (x, y) + motion[:, 2]
    return placement


def _shadows(image: Image, feet: list[tuple[float, float, float]], motion: Array) -> None:
    if not feet:
        return
    height, width = image.shape[:2]
    small = np.full((-(-height // SHADOW_REDUCTION), -(-width // SHADOW_REDUCTION)), 255, np.uint8)
    for x, y, scale in feet:
        column, row = (motion[:, :2] @ (x + 0.12 * scale, y) + motion[:, 2]) / SHADOW_REDUCTION
        axes = (max(1, round(0.36 * scale / SHADOW_REDUCTION)), max(1, round(0.085 * scale / SHADOW_REDUCTION)))
        cv2.ellipse(small, (round(column), round(row)), axes, 0, 0, 360, 150, cv2.FILLED)
    kernel = max(3, round(0.06 * max(scale for _, _, scale in feet) / SHADOW_REDUCTION * 2) | 1)
    soft = cv2.resize(cv2.blur(small, (kernel, kernel)), (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(image, cv2.merge([soft, soft, soft]), dst=image, scale=1 / 255)


def _moved(thing: occluders.Occluder, motion: Array) -> Sprite:
    height, width = thing.pixels.shape[:2]
    if motion is STILL:
        return Sprite(thing.left, thing.top, thing.pixels, (0, 0, 0, 0))
    corners = np.array([(x, y) for x in (thing.left, thing.left + width) for y in (thing.top, thing.top + height)])
    moved = corners @ motion[:, :2].T + motion[:, 2]
    left, top = np.floor(moved.min(axis=0)).astype(int) - 1
    right, bottom = np.ceil(moved.max(axis=0)).astype(int) + 1
    size = (int(right - left), int(bottom - top))
    pixels = _warp(thing.pixels, motion, thing.left, thing.top, (int(left), int(top)), size, cv2.BORDER_CONSTANT)
    return Sprite(int(left), int(top), pixels, (0, 0, 0, 0))


def _warp(
    pixels: NDArray[np.uint8],
    motion: Array,
    left: int,
    top: int,
    origin: tuple[int, int],
    size: tuple[int, int],
    border: int,
) -> NDArray[np.uint8]:
    """Warp pixels that begin at (left, top) of the still camera's picture into a window of the moved camera's picture.

    Positions are those of pixel edges, but OpenCV maps pixel centres, hence the shifts by half a pixel.
    """
    matrix = np.empty((2, 3))
    matrix[:, :2] = motion[:, :2]
    matrix[:, 2] = motion[:, :2] @ (left + 0.5, top + 0.5) + motion[:, 2] - origin - np.array([0.5, 0.5])
    return np.asarray(cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border), np.uint8)


def _clip(sprite: Sprite, shape: tuple[int, ...]) -> tuple[slice, slice, NDArray[np.uint8]] | None:
    height, width = sprite.pixels.shape[:2]
    top, bottom = max(sprite.top, 0), min(sprite.top + height, shape[0])
    left, right = max(sprite.left, 0), min(sprite.left + width, shape[1])
    if top >= bottom or left >= right:
        return None
    inside = sprite.pixels[top - sprite.top : bottom - sprite.top, left - sprite.left : right - sprite.left]
    return slice(top, bottom), slice(left, right), inside


def _paste(image: Image, sprite: Sprite) -> None:
    clipped = _clip(sprite, image.shape)
    if clipped is None:
        return
    rows, columns, pixels = clipped
    colour = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    gap = cv2.cvtColor(cv2.bitwise_not(pixels[:, :, 3]), cv2.COLOR_GRAY2BGR)
    behind = cv2.multiply(image[rows, columns], gap, scale=1 / 255)
    image[rows, columns] = cv2.add(colour, behind)


def _cover(covered: NDArray[np.uint8], sprite: Sprite) -> float:
    """Mark the sprite's pixels as covered; return the share of them that was uncovered before and in the picture."""
    clipped = _clip(sprite, covered.shape)
    if clipped is None:
        return 0.0
    rows, columns, pixels = clipped
    solid = _solid(pixels)
    whole = cv2.countNonZero(_solid(sprite.pixels))
    region = covered[rows, columns]
    free = cv2.countNonZero(cv2.bitwise_and(solid, cv2.bitwise_not(region)))
    cv2.bitwise_or(region, solid, dst=region)
    return free / whole if whole else 0.0


def _solid(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, solid = cv2.threshold(pixels[:, :, 3], SOLID - 1, 255, cv2.THRESH_BINARY)
    return np.asarray(solid, np.uint8)

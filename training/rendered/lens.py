"""What happens between a scene and its picture: occluders, the lens, darkness, noise, and compression."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes import Shot
from motserve.lab.scenes.clothing import sample_hue
from motserve.types import FloatArray, Image
from training.color_jitter import without_colour
from training.rendered.config import PictureConfig

_BENT: Final = (0.05, 0.4)
"""Range of the barrel distortion: 0 is a perfect lens, 0.4 a wide-angle ceiling camera."""

_EDGE_POINTS: Final = np.linspace(0, 1, 9)
"""Points of a box's edges, as shares of their length, that follow the distortion."""

_COVERED: Final = (0.15, 0.6)
"""Range of the share of a person behind an occluder."""


def film(shot: Shot, config: PictureConfig, rng: np.random.Generator) -> Shot:
    """Put occluders in front of people and apply distortion, darkness, blur, compression and greyscale at random.

    Args:
        shot: The picture, with the boxes and visibility of its people.
        config: Share of pictures with each of these.
        rng: Random generator.
    """
    if config.occluded and rng.random() < config.occluded:
        shot = _occlude(shot, rng)
    if config.distorted and rng.random() < config.distorted:
        shot = distort(shot, rng.uniform(*_BENT))
    image = shot.image
    if config.dark and rng.random() < config.dark:
        image = _darken(image, rng)
    if rng.random() < config.blurred:
        image = _blur(image, rng)
    if rng.random() < config.colourless:
        image = without_colour(image)
    if rng.random() < 0.7:
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return Shot(image, shot.boxes, shot.visibility)


def distort(shot: Shot, strength: float) -> Shot:
    """Return a shot with barrel distortion: the middle is magnified, the corners stay where they are.

    Args:
        shot: The picture, with the boxes and visibility of its people.
        strength: Distortion in the corners, as a share of their distance from the middle; not below 0. Raised,
            straight lines bend more.

    Returns:
        The shot. Each box encloses the curved edges of the part of the box before that is inside the picture.
    """
    height, width = shot.image.shape[:2]
    middle, reach = np.array([width, height]) / 2, math.hypot(width, height) / 2

    def source_radius(radius: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(radius * (1 + strength * radius**2) / (1 + strength))

    rows, columns = np.indices((height, width))
    offsets = (np.stack([columns, rows], axis=-1) + 0.5 - middle) / reach
    radius = np.hypot(offsets[..., 0], offsets[..., 1])
    factor = source_radius(radius) / np.maximum(radius, 1e-9)
    at = (offsets * factor[..., None] * reach + middle - 0.5).astype(np.float32)
    image = cv2.remap(shot.image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    corners = np.clip(shot.boxes.reshape(-1, 2, 2).astype(np.float64), 0, (width, height))
    along = corners[:, :1] + _EDGE_POINTS[:, None] * (corners[:, 1:] - corners[:, :1])  # (people, points, 2)
    x, y = along[..., 0], along[..., 1]
    ends = np.broadcast_to(corners[:, 1:], (len(corners), len(_EDGE_POINTS), 2))
    starts = np.broadcast_to(corners[:, :1], ends.shape)
    edges = np.concatenate(
        [
            np.stack([x, starts[..., 1]], axis=-1),
            np.stack([x, ends[..., 1]], axis=-1),
            np.stack([starts[..., 0], y], axis=-1),
            np.stack([ends[..., 0], y], axis=-1),
        ],
        axis=1,
    )
    offsets = (edges - middle) / reach
    radius = np.hypot(offsets[..., 0], offsets[..., 1])
    known = np.linspace(0, 1, 1025)
    factor = np.interp(radius, source_radius(known), known) / np.maximum(radius, 1e-9)
    moved = offsets * factor[..., None] * reach + middle
    boxes = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)
    return Shot(np.asarray(image, np.uint8), boxes, shot.visibility)


def _occlude(shot: Shot, rng: np.random.Generator) -> Shot:
    """Cover a part of some people, mostly from below, as counters, shelves and cars do."""
    image, visibility = shot.image.copy(), np.array(shot.visibility, np.float32)
    height, width = image.shape[:2]
    visible = np.flatnonzero(visibility > 0)
    for row in visible[rng.random(len(visible)) < 0.5]:
        x1, y1, x2, y2 = (float(edge) for edge in shot.boxes[row])
        share = rng.uniform(*_COVERED)
        wide, tall = x2 - x1, y2 - y1
        if rng.random() < 0.75:
            left, right = x1 - wide * rng.uniform(0, 1.5), x2 + wide * rng.uniform(0, 1.5)
            cover = np.array([left, y2 - share * tall, right, y2 + tall * rng.uniform(0, 0.3)])
        elif rng.random() < 0.5:
            cover = np.array([x1 - wide, y1 - 0.3 * tall, x1 + share * wide, y2 + 0.3 * tall])
        else:
            cover = np.array([x2 - share * wide, y1 - 0.3 * tall, x2 + wide, y2 + 0.3 * tall])
        left, top, right, bottom = (int(edge) for edge in np.clip(cover, 0, (width, height, width, height)).round())
        if right <= left or bottom <= top:
            continue
        image[top:bottom, left:right] = _surface(image, right - left, bottom - top, rng)
        visibility *= 1 - share_inside(shot.boxes, cover)
    return Shot(image, shot.boxes, visibility)


def _surface(image: Image, width: int, height: int, rng: np.random.Generator) -> Image:
    """Return the surface of an occluder: another part of the picture in other colours, stretched, or one colour."""
    colour = np.array(sample_hue(rng, (0.0, 0.7), (0.1, 0.95)), np.float32)
    if rng.random() < 0.4:
        return np.asarray(np.broadcast_to(colour.astype(np.uint8), (height, width, 3)))
    tall, wide = image.shape[:2]
    rows, columns = (max(4, int(rng.uniform(0.05, 0.3) * side)) for side in (tall, wide))
    y, x = int(rng.integers(tall - rows + 1)), int(rng.integers(wide - columns + 1))
    part = cv2.resize(image[y : y + rows, x : x + columns], (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(part * 0.6 + colour * 0.4, 0, 255), np.uint8)


def share_inside(boxes: FloatArray, rectangle: NDArray[np.float64]) -> FloatArray:
    """Return the share of each box that is inside a rectangle, all xyxy."""
    low, high = np.maximum(boxes[:, :2], rectangle[:2]), np.minimum(boxes[:, 2:], rectangle[2:])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=1) / np.maximum(areas, 1e-6), np.float32)


def _darken(image: Image, rng: np.random.Generator) -> Image:
    """Show a picture at night: little light, perhaps one lamp, pale colours, and noise."""
    height, width = image.shape[:2]
    light = np.full((height, width), rng.uniform(0.12, 0.45), np.float32)
    if rng.random() < 0.5:
        rows, columns = np.indices((height, width), np.float32)
        x, y = rng.uniform((0, 0), (width, height))
        spread = rng.uniform(0.15, 0.5) * max(width, height)
        light += rng.uniform(0.2, 0.6) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2))
    pale = rng.uniform(0.3, 0.9)
    dark = (without_colour(image) * pale + image * (1 - pale)) * light[..., None]
    noisy = dark + rng.normal(0, rng.uniform(2, 12), image.shape)
    return np.asarray(np.clip(noisy * rng.uniform(1, 2), 0, 255), np.uint8)  # the camera raises its gain


def _blur(image: Image, rng: np.random.Generator) -> Image:
    """Apply defocus or motion blur."""
    if rng.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6)), np.uint8)
    kernel = np.zeros((7, 7), np.float32)
    length, angle = rng.uniform(1, 3), rng.uniform(-0.4, 0.4)
    step = (round(length * math.cos(angle)), round(length * math.sin(angle)))
    cv2.line(kernel, (3 - step[0], 3 - step[1]), (3 + step[0], 3 + step[1]), 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)

"""Windows of frames as training pictures: people of all sizes, with colour jitter and lens effects."""

from __future__ import annotations

import math

import cv2
import numpy as np

from motserve.lab.scenes import Shot
from motserve.types import FloatArray, Image
from training.bundled.config import WindowConfig
from training.bundled.footage import Labels
from training.color_jitter import jitter_colors
from training.rendered.config import PictureConfig
from training.rendered.lens import film, share_inside
from training.rendered.pictures import SHAPES


def cut_window(
    image: Image, labels: Labels, settings: WindowConfig, pictures: PictureConfig, rng: np.random.Generator
) -> Shot:
    """Cut a window out of a frame, mostly around a person, scaled to a random height of this person.

    Args:
        image: The frame.
        labels: Labels of the frame.
        settings: Range of heights and minimum visibility.
        pictures: Size of the window and lens effects.
        rng: Random generator.

    Returns:
        The window. Boxes may extend beyond it; `visibility` is the share inside, 0 if not labelled.
    """
    wide, tall = SHAPES[rng.integers(len(SHAPES))]
    size = np.array([wide, tall]) * pictures.longer_side
    scale, centre = _aim(image, labels.boxes, settings, size, rng)
    across = rng.uniform(0.93, 1.07)  # vary the build of people and the aspect ratio
    matrix = np.array([[scale * across, 0, 0], [0, scale, 0]])
    matrix[:, 2] = size / 2 - matrix[:, :2] @ centre
    flip = rng.random() < 0.5
    if flip:
        matrix[0] = -matrix[0] + (0, 0, size[0])
    picture = _warped(image, matrix, (round(size[0]), round(size[1])))
    corners = np.stack([labels.boxes[:, :2], labels.boxes[:, 2:]], axis=1) @ matrix[:, :2].T + matrix[:, 2]
    boxes = np.hstack([corners.min(axis=1), corners.max(axis=1)])
    inside = share_inside(np.asarray(boxes), np.array([0, 0, *size]))
    visibility = np.where((inside >= settings.min_inside) & (labels.visibility >= settings.min_visibility), inside, 0)
    if rng.random() < 0.8:
        picture = jitter_colors(picture, rng)
    shot = Shot(picture, np.asarray(boxes, np.float32), np.asarray(visibility, np.float32))
    return film(shot, pictures, rng)


def _aim(
    image: Image, boxes: FloatArray, settings: WindowConfig, size: np.ndarray, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Draw scale and centre, so that a person has the drawn height and is in the window."""
    height, width = image.shape[:2]
    smallest = max(size[0] / width, size[1] / height) * 0.8  # limits the part of the window outside the frame
    if not len(boxes) or rng.random() < 0.1:
        scale = smallest * math.exp(rng.uniform(0, 1.2))
        centre = rng.uniform((0, 0), (width, height))
    else:
        box = boxes[rng.integers(len(boxes))]
        least, most = math.log(settings.min_height), math.log(settings.max_height)
        scale = max(smallest, math.exp(rng.uniform(least, most)) * size[1] / (box[3] - box[1]))
        centre = (box[:2] + box[2:]) / 2 + rng.uniform(-0.4, 0.4, 2) * size / scale
    half = size / scale / 2
    low, high = np.minimum(half, (width, height) - half), np.maximum(half, (width, height) - half)
    return scale, np.clip(centre, low, high)


def _warped(image: Image, matrix: np.ndarray, size: tuple[int, int]) -> Image:
    """Apply an affine map, with area averaging before reduction, which warping alone does not do."""
    shrink = float(np.abs(matrix[1, 1]))
    if shrink < 0.75:
        height, width = image.shape[:2]
        smaller = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix.copy()
        matrix[:, :2] = matrix[:, :2] @ np.diag([width / smaller[0], height / smaller[1]])
    grey = (114, 114, 114)
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=grey), np.uint8)

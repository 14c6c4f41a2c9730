"""Real people in rendered scenes: a person is cut out of crops and moves as a flat picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes.body import Pose
from motserve.lab.scenes.camera import Array
from motserve.lab.scenes.figure import SOLID, Sprite
from motserve.types import Image

_WORK_HEIGHT: Final = 384
"""Height in pixels to which a crop is enlarged first: edges found on small crops would be ragged."""

_ROUNDS: Final = 4
_SOFTNESS: Final = 2.0  # standard deviation of the edge, in pixels of the work size
_BOB: Final = 0.012  # rise of the body between two steps, as a fraction of its height

# ellipses in a crop that are probably and certainly the person: centre and half axes as fractions of its size
_PROBABLE: Final = ((0.5, 0.5, 0.46, 0.52),)
_CERTAIN: Final = ((0.5, 0.35, 0.16, 0.22), (0.5, 0.12, 0.1, 0.06), (0.5, 0.78, 0.08, 0.18))
_SIDE: Final = 0.03  # margin left and right that is background, as a fraction of the width


@dataclass(frozen=True, slots=True)
class Cutout:
    """The constant appearance of one real person.

    Attributes:
        height: Height of the body in metres.
        views: `(h, w, 4)` uint8 each, BGR multiplied by the coverage, and the coverage; evenly spaced headings. In the
            first the person walks towards the camera, a quarter of the views later to the right.
    """

    height: float
    views: tuple[NDArray[np.uint8], ...]


def cut_out(crop: Image) -> NDArray[np.uint8]:
    """Separate a person from the background of a crop.

    Reference: Rother et al., "GrabCut", SIGGRAPH 2004, initialised with the usual position of people in crops.

    Args:
        crop: `(h, w, 3)` uint8 BGR, one person, upright and as high as the crop.

    Returns:
        `(384, w', 4)` uint8, BGR multiplied by the coverage, and the coverage; same aspect ratio as the crop.
    """
    width = max(8, round(crop.shape[1] * _WORK_HEIGHT / crop.shape[0]))
    large = np.asarray(cv2.resize(crop, (width, _WORK_HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    labels = np.full(large.shape[:2], cv2.GC_PR_BGD, np.uint8)
    for ellipses, label in ((_PROBABLE, cv2.GC_PR_FGD), (_CERTAIN, cv2.GC_FGD)):
        for x, y, half_width, half_height in ellipses:
            centre, axes = (round(x * width), round(y * _WORK_HEIGHT)), (half_width * width, half_height * _WORK_HEIGHT)
            cv2.ellipse(labels, centre, (round(axes[0]), round(axes[1])), 0, 0, 360, label, cv2.FILLED)
    side = max(1, round(_SIDE * width))
    labels[:, :side] = labels[:, -side:] = cv2.GC_BGD
    person, _ = largest_part(separate(large, labels, _ROUNDS))
    return premultiplied(large, np.asarray(cv2.GaussianBlur(person * 255, (0, 0), _SOFTNESS), np.uint8))


def separate(image: Image, labels: NDArray[np.uint8], rounds: int) -> NDArray[np.uint8]:
    """Separate the foreground from the background by colours (GrabCut).

    Args:
        image: `(h, w, 3)` uint8 BGR.
        labels: `(h, w)` uint8, OpenCV's `GC_…` labels, certain or probable; changed in place.
        rounds: Iterations.

    Returns:
        `(h, w)` uint8, 1 in the foreground.
    """
    cv2.setRNGSeed(0)  # GrabCut clusters with random numbers
    cv2.grabCut(image, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def largest_part(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return a mask of the largest connected part of a `(h, w)` mask, and its share of the mask's area.

    An empty mask is returned unchanged, with a share of 0.
    """
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if not len(sizes):
        return mask, 0.0
    return (parts == 1 + sizes.argmax()).astype(np.uint8), float(sizes.max() / sizes.sum())


def premultiplied(image: Image, coverage: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `(h, w, 4)` uint8: a picture's colours multiplied by a `(h, w)` coverage of 255, and the coverage."""
    return np.dstack([cv2.multiply(image, cv2.merge([coverage] * 3), scale=1 / 255), coverage]).astype(np.uint8)


def draw_cutout(person: Cutout, pose: Pose, placement: Array) -> Sprite:
    """Draw a person as the flat picture that fits the heading best.

    Args:
        person: Appearance.
        pose: Heading and gait.
        placement: `(2, 3)` affine map from metres at the feet (right, down) to pixels of the picture.

    Returns:
        The sprite; its box encloses the covered pixels.
    """
    pixels = person.views[round(pose.heading / (2 * math.pi) * len(person.views)) % len(person.views)]
    rows, columns = pixels.shape[:2]
    metres = person.height / rows
    bob = _BOB * person.height * pose.stride * abs(math.sin(pose.phase))
    to_metres = np.array([[metres, 0, -columns / 2 * metres], [0, metres, -person.height - bob], [0, 0, 1]])
    matrix = placement @ to_metres
    corners = np.array([(x, y, 1) for x in (0, columns) for y in (0, rows)]) @ matrix.T
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int)
    size = (max(1, int(right - left)), max(1, int(bottom - top)))
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    if scale < 1:  # linear interpolation alone would skip pixels
        smaller = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        pixels = np.asarray(cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ np.diag([columns / smaller[0], rows / smaller[1], 1])
    # positions are those of pixel edges, OpenCV's those of centres
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - (left, top) - 0.5
    drawn = np.asarray(cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR), np.uint8)
    _, solid = cv2.threshold(drawn[:, :, 3], SOLID - 1, 255, cv2.THRESH_BINARY)
    x, y, w, h = cv2.boundingRect(solid)
    return Sprite(int(left), int(top), drawn, (left + x, top + y, left + x + w, top + y + h))


def cutout_of(crops: Sequence[Image], height: float) -> Cutout:
    """Cut a person out of one crop per view, in the order of `Cutout.views`."""
    return Cutout(height, tuple(cut_out(crop) for crop in crops))

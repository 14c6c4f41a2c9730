"""The empty place behind the people of a fixed camera, and what stands out against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.reid.crops import whole_pixels
from motserve.types import BoolArray, FloatArray, Image

_STRIP: Final = 64
"""Rows worked on at a time: medians need the pixels of all frames in single precision."""

_MARGIN: Final = 0.1
"""People's boxes are enlarged by this share of their size, for shadows and loose labels."""

_BLUR: Final = 1.2  # standard deviation in pixels, against noise and compression


def empty_place(images: Sequence[Image], boxes: Sequence[FloatArray]) -> Image:
    """Return what a fixed camera sees when nobody is there: of each pixel the median over frames in which it is free.

    Args:
        images: `(height, width, 3)` uint8 BGR each, of the same camera.
        boxes: Of each `(n, 4)` float32, xyxy in pixels, what moves; a pixel never free is the median over all frames.
    """
    height, width = images[0].shape[:2]
    free = np.ones((len(images), height, width), bool)
    for mask, rows in zip(free, boxes, strict=True):
        for x1, y1, x2, y2 in whole_pixels(enlarged(rows, _MARGIN), height, width).tolist():
            mask[y1:y2, x1:x2] = False
    free[:, ~free.any(axis=0)] = True
    plate = np.empty_like(images[0])
    for top in range(0, height, _STRIP):
        strip = slice(top, top + _STRIP)
        pixels = np.stack([image[strip] for image in images]).astype(np.float32)
        pixels[~free[:, strip]] = np.nan
        plate[strip] = np.nanmedian(pixels, axis=0)
    return plate


def difference(image: Image, plate: Image) -> NDArray[np.uint8]:
    """Return `(height, width)` uint8, the largest difference of the three channels to the empty place."""
    blurred = [cv2.GaussianBlur(picture, (0, 0), _BLUR) for picture in (image, plate)]
    return np.asarray(cv2.absdiff(*blurred).max(axis=2), np.uint8)


def unexplained(image: Image, plate: Image, boxes: FloatArray, threshold: int) -> float:
    """Return the share of a picture that differs from the empty place, outside of the boxes of people.

    Args:
        image: The picture.
        plate: The empty place.
        boxes: `(n, 4)` float32, xyxy in pixels.
        threshold: Least difference, of 255.
    """
    stands_out: BoolArray = difference(image, plate) >= threshold
    opened = cv2.morphologyEx(stands_out.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    for x1, y1, x2, y2 in whole_pixels(enlarged(boxes, 2 * _MARGIN), *image.shape[:2]).tolist():
        opened[y1:y2, x1:x2] = 0
    return float(opened.mean())


def enlarged(boxes: FloatArray, share: float) -> FloatArray:
    """Return `(n, 4)` boxes whose edges lie a share of their size further out."""
    outwards = share * (boxes[:, 2:] - boxes[:, :2])
    return np.asarray(np.hstack([boxes[:, :2] - outwards, boxes[:, 2:] + outwards]), np.float32)

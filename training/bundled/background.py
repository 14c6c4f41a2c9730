"""Background of a static camera: its estimation and the difference of frames to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.reid.crops import whole_pixels
from motserve.types import BoolArray, FloatArray, Image

_STRIP: Final = 64
"""Rows processed at a time: the median needs the pixels of all frames in single precision."""

_MARGIN: Final = 0.1
"""People's boxes are enlarged by this share of their size, for shadows and loose labels."""

_BLUR: Final = 1.2  # standard deviation in pixels, against noise and compression


def estimate_background(images: Sequence[Image], boxes: Sequence[FloatArray]) -> Image:
    """Estimate the background of a static camera: the median of each pixel over the frames without people there.

    Args:
        images: `(height, width, 3)` uint8 BGR each, of the same camera.
        boxes: For each image `(n, 4)` float32, xyxy in pixels, moving objects; a pixel that is always covered gets the
            median over all frames.
    """
    height, width = images[0].shape[:2]
    free = np.ones((len(images), height, width), bool)
    for mask, rows in zip(free, boxes, strict=True):
        for x1, y1, x2, y2 in whole_pixels(enlarged(rows, _MARGIN), height, width).tolist():
            mask[y1:y2, x1:x2] = False
    free[:, ~free.any(axis=0)] = True
    background = np.empty_like(images[0])
    for top in range(0, height, _STRIP):
        strip = slice(top, top + _STRIP)
        pixels = np.stack([image[strip] for image in images]).astype(np.float32)
        pixels[~free[:, strip]] = np.nan
        background[strip] = np.nanmedian(pixels, axis=0)
    return background


def difference(image: Image, background: Image) -> NDArray[np.uint8]:
    """Return `(height, width)` uint8, the largest difference of the three channels to the background."""
    blurred = [cv2.GaussianBlur(picture, (0, 0), _BLUR) for picture in (image, background)]
    return np.asarray(cv2.absdiff(*blurred).max(axis=2), np.uint8)


def unlabelled_share(image: Image, background: Image, boxes: FloatArray, threshold: int) -> float:
    """Return the share of a picture that differs from the background outside of the boxes of people.

    Args:
        image: The picture.
        background: The background.
        boxes: `(n, 4)` float32, xyxy in pixels.
        threshold: Minimum difference, on a scale of 255.
    """
    foreground: BoolArray = difference(image, background) >= threshold
    opened = cv2.morphologyEx(foreground.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    for x1, y1, x2, y2 in whole_pixels(enlarged(boxes, 2 * _MARGIN), *image.shape[:2]).tolist():
        opened[y1:y2, x1:x2] = 0
    return float(opened.mean())


def enlarged(boxes: FloatArray, share: float) -> FloatArray:
    """Return `(n, 4)` boxes with each edge moved outwards by a share of the size."""
    outwards = share * (boxes[:, 2:] - boxes[:, :2])
    return np.asarray(np.hstack([boxes[:, :2] - outwards, boxes[:, 2:] + outwards]), np.float32)

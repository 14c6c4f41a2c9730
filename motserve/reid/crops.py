"""Cuts people out of frames at the embedder's input size, so that only small pictures are transferred."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.config import TrustConfig
from motserve.types import BoolArray, FloatArray, Image, IntArray, Tracks

_MIN_AREA = 1e-6  # square pixels; keeps the covered share of a box without area finite


def cut_crops(image: Image, boxes: FloatArray, height: int, width: int) -> NDArray[np.uint8]:
    """Cut boxes out of a picture and resize them.

    A box is clipped to the picture; one that lies wholly outside gives a black crop.

    Args:
        image: `(H, W, 3)` uint8 BGR.
        boxes: `(n, 4)` float32 xyxy in pixels.
        height: Height of a crop in pixels.
        width: Width of a crop in pixels.

    Returns:
        `(n, height, width, 3)` uint8 BGR.
    """
    crops = np.zeros((len(boxes), height, width, 3), np.uint8)
    for crop, (x1, y1, x2, y2) in zip(crops, whole_pixels(boxes, *image.shape[:2]).tolist(), strict=True):
        if x2 > x1 and y2 > y1:
            cv2.resize(image[y1:y2, x1:x2], (width, height), dst=crop, interpolation=cv2.INTER_LINEAR)
    return crops


class FrameCrops:
    """The crops of one picture, cut once: those that were embedded last are kept.

    Args:
        image: `(H, W, 3)` uint8 BGR.
        height: Height of a crop in pixels.
        width: Width of a crop in pixels.
    """

    def __init__(self, image: Image, height: int, width: int) -> None:
        self._image = image
        self._size = height, width
        self._boxes: FloatArray | None = None
        self._crops: NDArray[np.uint8] | None = None

    def cut(self, boxes: FloatArray) -> NDArray[np.uint8]:
        """Cut boxes out; see `cut_crops`."""
        self._boxes, self._crops = boxes, cut_crops(self._image, boxes, *self._size)
        return self._crops

    def select(self, boxes: FloatArray, rows: BoolArray) -> NDArray[np.uint8]:
        """Return the crops of the boxes that are marked in `(n,)`; they are cut only if `cut` did not get these boxes.

        Args:
            boxes: `(n, 4)` float32 xyxy in pixels; the same array as that of `cut`.
            rows: `(n,)` bool.
        """
        if self._crops is not None and boxes is self._boxes:
            return self._crops[rows]
        return cut_crops(self._image, boxes[rows], *self._size)


def whole_pixels(boxes: FloatArray, height: int, width: int) -> IntArray:
    """Return the pixels of a picture that boxes touch, `(n, 4)` int64 `x1, y1, x2, y2` with `x2` and `y2` exclusive.

    >>> whole_pixels(np.array([[-3, 1.2, 4.1, 9]], np.float32), height=6, width=8).tolist()
    [[0, 1, 5, 6]]
    """
    corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    pixels: IntArray = np.clip(corners, 0, np.array([width, height, width, height])).astype(np.int64)
    return pixels


def overlap_share(boxes: FloatArray) -> FloatArray:
    """Return for each of `(n, 4)` boxes the largest share of its area that one other box covers, in [0, 1].

    >>> overlap_share(np.array([[0, 0, 2, 2], [1, 0, 9, 2], [20, 0, 21, 1]], np.float32)).tolist()
    [0.5, 0.125, 0.0]
    """
    share: FloatArray = covered_shares(boxes).max(axis=1, initial=0)
    return share


def covered_shares(boxes: FloatArray) -> FloatArray:
    """Return `(n, n)` float32: element `[i, j]` is the share of the area of box `i` that box `j` covers.

    The diagonal is 0.

    Args:
        boxes: `(n, 4)` float32, xyxy.
    """
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    np.fill_diagonal(shared, 0)
    areas = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), _MIN_AREA)
    shares: FloatArray = shared / areas[:, None]
    return shares


def trusted(tracks: Tracks, config: TrustConfig, size: tuple[int, int] | None) -> BoolArray:
    """Tell which tracks have a crop that is good enough for re-identification.

    Args:
        tracks: The tracks of a frame.
        config: Conditions of a good crop.
        size: Width and height of the picture in pixels; None to treat no box as cut off by the border.

    Returns:
        `(n,)` bool.
    """
    boxes = tracks.boxes
    good = boxes[:, 3] - boxes[:, 1] >= config.min_height
    good &= tracks.scores >= config.min_confidence
    good &= overlap_share(boxes) <= config.max_overlap
    return np.asarray(good & ~at_border(boxes, size, config.border))


def at_border(boxes: FloatArray, size: tuple[int, int] | None, share: float) -> BoolArray:
    """Tell which boxes reach the border of a picture.

    Args:
        boxes: `(n, 4)` float32, xyxy in pixels.
        size: Width and height of the picture in pixels; None for a picture without border.
        share: Width of the border as a share of the picture's width or height.

    Returns:
        `(n,)` bool.
    """
    if size is None:
        return np.zeros(len(boxes), np.bool_)
    extent = np.array(size, np.float32)
    margin = share * extent
    return np.asarray(((boxes[:, :2] <= margin) | (boxes[:, 2:] >= extent - margin)).any(axis=1))

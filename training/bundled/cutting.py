"""Cuts people out of the footage of a static camera."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from motserve.lab.scenes.cutout import largest_part, premultiplied, separate
from motserve.reid.crops import whole_pixels
from motserve.types import FloatArray, Image
from training.bundled.background import difference, enlarged
from training.overlays import Cut

_AROUND: Final = 0.15
"""Margin around a box, as a share of its size, from which GrabCut learns the background."""

_ROUNDS: Final = 3
_LEAST_DIFFERENCE: Final = 14  # of 255; noise and compression stay below
_CERTAIN: Final = 2.5  # times the threshold; such pixels are foreground regardless of colour
_LEAST_CONNECTED: Final = 0.85
"""Minimum share of the foreground in its largest component; a person in background colours has several."""

_SOFTNESS: Final = 0.7  # standard deviation of the edge, in pixels

# a cutout is used if its extent agrees with the box
_LEAST_AREA, _MOST_AREA = 0.25, 0.8
_LEAST_HEIGHT, _MOST_HEIGHT = 0.82, 1.12
_LEAST_WIDTH, _MOST_WIDTH = 0.45, 1.25


def cut_person(image: Image, background: Image, box: FloatArray, height: int) -> Cut | None:
    """Cut a person out of a frame by the difference to the background and by colours.

    Reference: Rother et al., "GrabCut", SIGGRAPH 2004.

    Args:
        image: The frame.
        background: The background of the camera.
        box: `(4,)` float32, xyxy in pixels, inside the frame.
        height: Higher cutouts are scaled down to this many pixels.

    Returns:
        The person, cropped to the mask; None if the mask does not fit the box.
    """
    x1, y1, x2, y2 = whole_pixels(enlarged(box[None], _AROUND), *image.shape[:2])[0].tolist()
    window, empty = image[y1:y2, x1:x2], background[y1:y2, x1:x2]
    contrast = difference(window, empty)
    otsu, _ = cv2.threshold(contrast, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    threshold = max(_LEAST_DIFFERENCE, min(otsu, 40))
    labels = np.where(contrast >= threshold, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[contrast >= _CERTAIN * threshold] = cv2.GC_FGD
    labels[contrast < _LEAST_DIFFERENCE / 2] = cv2.GC_BGD
    inner = whole_pixels(enlarged(box[None], 0.04), *image.shape[:2])[0] - (x1, y1, x1, y1)
    outside = np.ones(labels.shape, bool)
    outside[inner[1] : inner[3], inner[0] : inner[2]] = False
    labels[outside] = cv2.GC_BGD
    if not np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).any():
        return None
    closed = cv2.morphologyEx(separate(window, labels, _ROUNDS), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    person, share = largest_part(np.asarray(closed, np.uint8))
    x, y, wide, tall = cv2.boundingRect(person)
    size = box[2:] - box[:2]
    fits = (
        share >= _LEAST_CONNECTED
        and _LEAST_HEIGHT <= tall / size[1] <= _MOST_HEIGHT
        and _LEAST_WIDTH <= wide / size[0] <= _MOST_WIDTH
        and _LEAST_AREA <= float(person.sum()) / (wide * tall) <= _MOST_AREA
    )
    if not fits:
        return None
    # the outermost pixels are mixed with background; remove them
    eroded = cv2.erode(person * 255, np.ones((3, 3), np.uint8))
    coverage = np.asarray(cv2.GaussianBlur(eroded, (0, 0), _SOFTNESS), np.uint8)
    cut = premultiplied(window, coverage)[y : y + tall, x : x + wide]
    return shrunk(cut, height)


def shrunk(cut: Cut, height: int) -> Cut:
    """Return a cutout scaled down to a height in pixels, if it is higher."""
    tall, wide = cut.shape[:2]
    if tall > height:
        cut = np.asarray(cv2.resize(cut, (max(1, round(wide * height / tall)), height), interpolation=cv2.INTER_AREA))
    return np.asarray(cut, np.uint8)

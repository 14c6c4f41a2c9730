"""Detects in one part of the picture only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from motserve.base import DetectorBase
from motserve.types import Detections, Image


class RegionDetector(DetectorBase):
    """A detector that gets a part of each picture; its boxes are in pixels of the whole picture.

    Args:
        detector: The detector.
        region: Left, top, right and bottom edge of the part, as shares of width and height, the left and top edge
            smaller than the others.
    """

    def __init__(self, detector: DetectorBase, region: tuple[float, float, float, float]) -> None:
        self._detector = detector
        self._region = region

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each class index that `detect` may return."""
        return self._detector.class_names

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters of the network; None where an exported format does not give it."""
        return self._detector.parameters

    @property
    def backend(self) -> str:
        """Library that runs the network."""
        return self._detector.backend

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detect in the part of each picture; see `DetectorBase.detect`. People who reach out of it are cut off."""
        parts, corners = [], []
        for image in images:
            left, top, right, bottom = self._edges(*image.shape[:2])
            parts.append(np.ascontiguousarray(image[top:bottom, left:right]))
            corners.append(np.array([left, top, left, top], np.float32))
        return [
            Detections(found.boxes + corner, found.scores, found.classes)
            for found, corner in zip(self._detector.detect(parts), corners, strict=True)
        ]

    def _edges(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the edges in pixels, at least one pixel apart."""
        left, top, right, bottom = self._region
        first_column, first_row = min(math.floor(left * width), width - 1), min(math.floor(top * height), height - 1)
        last_column, last_row = math.ceil(right * width), math.ceil(bottom * height)
        return first_column, first_row, max(last_column, first_column + 1), max(last_row, first_row + 1)

"""`detector.region`: people are detected in a part of the picture, and boxes are in pixels of the whole one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from motserve.base import DetectorBase
from motserve.config import load_config
from motserve.detection.region import RegionDetector
from motserve.errors import InvalidConfig
from motserve.types import Detections, Image


class FindsBright(DetectorBase):
    """Detects the rectangle of bright pixels."""

    shapes: list[tuple[int, ...]]

    def __init__(self) -> None:
        self.shapes = []

    @property
    def class_names(self) -> Mapping[int, str]:
        return {0: "person"}

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.shapes += [image.shape for image in images]
        return [_bright(image) for image in images]


def _bright(image: Image) -> Detections:
    assert image.flags.c_contiguous
    rows, columns = np.nonzero(image[:, :, 0] > 100)
    if not len(rows):
        return Detections.empty()
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return Detections(np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))


def picture(height: int, width: int, box: tuple[int, int, int, int]) -> Image:
    image = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = 255
    return image


def test_boxes_are_in_pixels_of_the_whole_picture() -> None:
    inner = FindsBright()
    detector = RegionDetector(inner, (0.25, 0.5, 1.0, 0.9))
    wide, high = picture(100, 200, (80, 60, 100, 80)), picture(300, 40, (20, 200, 30, 250))
    first, second = detector.detect([wide, high])
    assert inner.shapes == [(40, 150, 3), (120, 30, 3)]
    assert first.boxes.tolist() == [[80, 60, 100, 80]]
    assert second.boxes.tolist() == [[20, 200, 30, 250]]
    assert (detector.class_names, detector.parameters, detector.backend) == ({0: "person"}, None, "torch")


def test_people_outside_are_not_detected_and_those_at_the_edge_are_cut_off() -> None:
    detector = RegionDetector(FindsBright(), (0, 0.5, 1, 1))
    outside, edge = detector.detect([picture(100, 100, (0, 0, 9, 49)), picture(100, 100, (10, 40, 20, 70))])
    assert len(outside) == 0
    assert edge.boxes.tolist() == [[10, 50, 20, 70]]


@pytest.mark.parametrize("region", [(0.999, 0.999, 1.0, 1.0), (0.0, 0.0, 0.001, 0.001)])
def test_a_part_has_a_pixel_at_least(region: tuple[float, float, float, float]) -> None:
    inner = FindsBright()
    RegionDetector(inner, region).detect([picture(3, 2, (0, 0, 1, 1))])
    assert inner.shapes == [(1, 1, 3)]


@pytest.mark.parametrize("region", [[0.5, 0, 0.5, 1], [0, 0.6, 1, 0.4], [0, 0, 1, 1.1], [0, 0, 1], [0, 0, 1, "nan"]])
def test_other_regions_are_refused(region: list[Any]) -> None:
    with pytest.raises(InvalidConfig, match=r"detector\.region"):
        load_config([{"detector": {"region": region}}])

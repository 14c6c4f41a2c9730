"""How far a detector agrees with its teacher at a larger size, on photographs without ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torchvision.ops import box_iou

from motserve.config import load_config
from motserve.detection import build_detector
from motserve.lab.evaluation.reid_data import read_image
from motserve.models.weights import resolve_weights
from motserve.types import Detections, FloatArray, Image

Detect = Callable[[Image], Detections]
"""Returns the people in a picture, the most confident first."""

REFERENCE_SIZE: Final = 1280
REFERENCE_CONFIDENCE: Final = 0.5
SIZE: Final = 640
CONFIDENCE: Final = 0.25
_MIN_IOU: Final = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts over pictures.

    Attributes:
        people: People whom the reference sees.
        found: Those of them whom the detector finds.
        boxes: Boxes of the detector.
        agreeing: Those of them on a person whom the reference sees.
    """

    people: int
    found: int
    boxes: int
    agreeing: int

    @property
    def recall(self) -> float:
        """Share of the reference's people that are found; NaN without people."""
        return self.found / self.people if self.people else float("nan")

    @property
    def agreeing_share(self) -> float:
        """Share of the boxes that agree; NaN without boxes."""
        return self.agreeing / self.boxes if self.boxes else float("nan")


def people_detector(weights: Path, image_size: int, confidence: float) -> Detect:
    """Return a function that detects people.

    Args:
        weights: Weights of a detector that knows the class `person`.
        image_size: Longer side of the network's input in pixels.
        confidence: Minimum confidence.

    Raises:
        WeightsUnavailable: The weights are not available.
    """
    changes = {"weights": [str(weights)], "classes": ["person"], "image_size": image_size, "confidence": confidence}
    config = load_config(overrides={"detector": changes})
    detector = build_detector(config.detector, resolve_weights("detector", config), config.cache_dir)
    return lambda picture: detector.detect([picture])[0]


def measure_agreement(pictures: Iterable[Image], reference: Detect, detectors: Sequence[Detect]) -> list[Agreement]:
    """Compare detectors with a reference on the same pictures.

    Args:
        pictures: The pictures.
        reference: Detector whose boxes count as people.
        detectors: The detectors.

    Returns:
        The agreement of each detector.
    """
    counts = np.zeros((len(detectors), 4), np.int64)
    for picture in pictures:
        people = reference(picture).boxes
        for row, detect in enumerate(detectors):
            boxes = detect(picture).boxes
            matches = match_boxes(people, boxes)
            counts[row] += len(people), matches, len(boxes), matches
    return [Agreement(*row) for row in counts.tolist()]


def match_boxes(people: FloatArray, boxes: FloatArray) -> int:
    """Return the number of boxes with a person of their own, IoU at least 0.5; the first boxes choose first.

    >>> one, two = [0.0, 0, 10, 10], [20.0, 0, 30, 10]
    >>> match_boxes(np.array([one, two], np.float32), np.array([one, one, [21, 0, 30, 10]], np.float32))
    2
    """
    overlap = box_iou(torch.from_numpy(boxes), torch.from_numpy(people)).numpy()
    matches = 0
    for row in overlap:
        if row.size and (person := int(row.argmax())) >= 0 and row[person] >= _MIN_IOU:
            overlap[:, person] = 0
            matches += 1
    return matches


def compare_with_teacher(files: Iterable[Path], weights: Path, teacher: Path) -> dict[str, float]:
    """Return the agreement of a detector, and of its teacher at the same size, with the teacher at a larger size.

    Args:
        files: Pictures.
        weights: Weights of the detector.
        teacher: Weights of the teacher.

    Returns:
        `people`, `recall`, `agreeing`, `teacher_recall` and `teacher_agreeing`.
    """
    reference = people_detector(teacher, REFERENCE_SIZE, REFERENCE_CONFIDENCE)
    detectors = [people_detector(each, SIZE, CONFIDENCE) for each in (weights, teacher)]
    own, usual = measure_agreement(map(read_image, files), reference, detectors)
    return {
        "people": own.people,
        "recall": own.recall,
        "agreeing": own.agreeing_share,
        "teacher_recall": usual.recall,
        "teacher_agreeing": usual.agreeing_share,
    }

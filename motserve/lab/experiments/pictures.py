"""Labelled pictures, from sequences or a YOLO data set, and the detector's scores on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from motserve.config import Config, change_config
from motserve.errors import InvalidData
from motserve.lab.evaluation.detection import (
    DetectionScores,
    ImageTruth,
    classes_in,
    match_detections,
    mot_truth,
    score_matches,
)
from motserve.lab.evaluation.sequences import COMBINED
from motserve.lab.evaluation.yolo_data import YoloData, read_yolo
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.detections import PERSON, Progress, silent
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.sequences import LabelledSequence
from motserve.models.provenance import describe_files
from motserve.results import PERSON_CLASSES
from motserve.types import BoolArray, Detections, Image, IntArray

DETECTION_LIBRARIES: Final = ("pycocotools", "transformers", "effdet", "timm")


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures of one sequence or split, with their ground truth and detections.

    Attributes:
        name: Name of the sequence or split.
        truth: Ground truth of each picture.
        detections: Detections in each picture.
        sample: Function that decodes the first n pictures; without pictures it returns none.
        data: Checksums, for the provenance of a result.
    """

    name: str
    truth: Sequence[ImageTruth]
    detections: Sequence[Detections]
    sample: Callable[[int], list[Image]]
    data: Mapping[str, Any] = field(default_factory=dict)


def for_scoring(config: Config) -> Config:
    """Return the configuration with the confidence down to which average precision is measured."""
    return change_config(config, {"detector": {"confidence": config.evaluation.detection_confidence}})


def pictures_of(sequence: LabelledSequence) -> LabelledPictures:
    """Return a sequence as labelled pictures of people."""
    detections = [_of_people(frame, sequence.detected.class_names) for frame in sequence.detected.detections]
    truth = mot_truth(sequence.table, sequence.rules, len(detections))

    def sample(count: int) -> list[Image]:
        if sequence.footage is None:
            return []
        with sequence.footage as footage:
            return [footage.image(sequence.detected.frame_of(index)) for index in range(min(count, len(detections)))]

    return LabelledPictures(sequence.name, truth, detections, sample, sequence.describe())


def detect_yolo(data: Path, split: str, models: Models, cache: Cache, progress: Progress = silent) -> LabelledPictures:
    """Detect in a split of a YOLO data set, or read the detections from the cache.

    Classes are matched by name; those of the data set that the detector is not configured for are not scored.

    Args:
        data: The `data.yaml`.
        split: Name of the split.
        models: The detector.
        cache: Cache of detections.
        progress: Called with the progress of detection.

    Raises:
        NotFound: A file is missing.
        InvalidData: A file is malformed, or the detector is configured for no class of the data set.
    """
    yolo = read_yolo(data, split)
    pictures = describe_files(yolo.images, data.parent)
    images = sorted(yolo.images)  # the checksum ignores order, so the cached detections are in a fixed one
    key = {"pictures": pictures["sha256"], **models.detection_key()}
    cached = cache.load_detections(key)
    if cached is None:
        computed = _detect(split, images, models, progress)
        key |= models.detection_key()  # its backend is another one if the network could not be converted
        cached = computed, np.zeros(len(computed)), {"class_names": dict(models.detector.class_names)}
        cache.store_detections(key, *cached)
    detections_of = dict(zip(images, cached[0], strict=True))
    detections = [detections_of[image] for image in yolo.images]
    known = {int(index): str(name) for index, name in cached[2]["class_names"].items()}
    truth, detections = _common_classes(yolo, detections, known, data)
    description = {"pictures": pictures, "labels": describe_files([data, *yolo.labels], data.parent)}

    def sample(count: int) -> list[Image]:
        return [read_picture(path) for path in yolo.images[:count]]

    return LabelledPictures(split, truth, detections, sample, description)


def score_pictures(parts: Sequence[LabelledPictures], config: Config) -> dict[str, DetectionScores]:
    """Score each part, and all parts together as `COMBINED`."""
    limits = config.evaluation.false_positives_per_image
    classes = sorted({index for part in parts for index in classes_in(part.truth)})
    matches = {part.name: match_detections(part.truth, part.detections, classes) for part in parts}
    together = reduce(add, matches.values())
    return {name: score_matches(one, limits) for name, one in {**matches, COMBINED: together}.items()}


def read_picture(path: Path) -> Image:
    """Decode a picture.

    Raises:
        InvalidData: It cannot be decoded.
    """
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InvalidData(f"{path} cannot be decoded")
    return np.asarray(image, np.uint8)


def _detect(name: str, images: Sequence[Path], models: Models, progress: Progress) -> list[Detections]:
    batch = models.config.evaluation.detect_batch
    detections: list[Detections] = []
    for start in range(0, len(images), batch):
        detections += models.detector.detect([read_picture(path) for path in images[start : start + batch]])
        progress(name, len(detections), len(images))
    return detections


def _of_people(detections: Detections, class_names: Mapping[int, str]) -> Detections:
    """Select the people and give them the class of people in the ground truth."""
    people = [index for index, name in class_names.items() if name.lower() in PERSON_CLASSES]
    rows = np.isin(detections.classes, people)
    (person,) = PERSON
    return Detections(detections.boxes[rows], detections.scores[rows], np.full(int(rows.sum()), person))


def _common_classes(
    yolo: YoloData, detections: Sequence[Detections], known: Mapping[int, str], data: Path
) -> tuple[list[ImageTruth], list[Detections]]:
    names = {_common_name(name): index for index, name in yolo.names.items()}
    index_of = {index: names[_common_name(name)] for index, name in known.items() if _common_name(name) in names}
    if not index_of:
        raise InvalidData(
            f"{data}: the detector detects none of its classes {', '.join(map(str, yolo.names.values()))}, only "
            f"{', '.join(known.values())}; set detector.classes"
        )
    scored = set(index_of.values())
    merged = {index: names[_common_name(name)] for index, name in yolo.names.items()}
    merged = {index: common for index, common in merged.items() if common in scored}
    truth = []
    for image in yolo.truth:
        rows, classes = _translate(image.classes, merged)
        truth.append(ImageTruth(image.boxes[rows], classes, image.ignored[rows]))
    translated = []
    for picture in detections:
        rows, classes = _translate(picture.classes, index_of)
        translated.append(Detections(picture.boxes[rows], picture.scores[rows], classes))
    return truth, translated


def _translate(classes: IntArray, index_of: Mapping[int, int]) -> tuple[BoolArray, IntArray]:
    """Return a mask of the rows with a known class, and the new class index of those rows."""
    rows = np.isin(classes, list(index_of))
    return rows, np.array([index_of[index] for index in classes[rows].tolist()], np.int64)


def _common_name(name: str) -> str:
    """Return the lower-case name of a class; `pedestrian` and `person` are one class."""
    return "person" if str(name).lower() in PERSON_CLASSES else str(name).lower()

"""Average precision and recall of detections, matched and accumulated by pycocotools.

References: Lin et al. 2014 (COCO: precision at 101 recalls, IoU from 0.5 to 0.95); recall at a number of false
positives per image as in Dollar et al. 2012.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from motserve.lab.evaluation.benchmarks import PEDESTRIAN, Rules
from motserve.lab.evaluation.preparation import check_truth
from motserve.models.extras import required_extra
from motserve.results import MotTable
from motserve.types import BoolArray, Detections, IntArray

_THRESHOLDS: Final = np.linspace(0.5, 0.95, 10)
_EVERY_AREA: Final = (0.0, 1e10)
_ROUNDING: Final = 1e-9  # 0.29 false positives per image over 100 images are 29, not 28.999999999999996
_PICTURES_AT_A_TIME: Final = 128
_RECORD: Final = ("dtMatches", "dtScores", "dtIgnore", "gtIgnore")  # required keys of a match
_REQUIRED_BY: Final = "the score of a detector"
_OUTSIDE: Final = 2e10  # area beyond the range of pycocotools, which ignores such boxes


DETECTION_COUNTS: Final = ("images", "objects")
"""Names of the scores that are whole numbers; the others are fractions."""


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """Ground truth of one picture.

    Attributes:
        boxes: `(n, 4)` float64, xyxy in pixels; they may extend beyond the picture.
        classes: `(n,)` int64, class of each.
        ignored: `(n,)` bool, True for objects that count neither as misses nor, if detected, as false positives.
    """

    boxes: NDArray[np.float64]
    classes: IntArray
    ignored: BoolArray


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """Scores over a set of pictures, averaged over the classes that occur. Fractions; nan if there are no objects.

    Attributes:
        map50: Average precision at IoU 0.5.
        map50_95: Mean of average precision at IoU 0.5 to 0.95.
        recalls: Recall at IoU 0.5, by the largest permitted number of false positives per image.
        images: Number of pictures.
        objects: Number of objects in the ground truth.
    """

    map50: float
    map50_95: float
    recalls: Mapping[float, float]
    images: int
    objects: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the scores by name."""
        recalls = {recall_name(limit): value for limit, value in self.recalls.items()}
        return {
            "mAP50": self.map50,
            "mAP50-95": self.map50_95,
            **recalls,
            "images": self.images,
            "objects": self.objects,
        }


def recall_name(limit: float) -> str:
    """Return the name of recall at a number of false positives per image.

    >>> recall_name(0.1)
    'recall@0.1FPPI'
    """
    return f"recall@{limit:g}FPPI"


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches of detections with ground truth for a set of pictures; sets can be added.

    Attributes:
        images: Number of pictures.
        by_class: For each class, pycocotools' record of every picture in which it occurs.
    """

    images: int
    by_class: Mapping[int, Sequence[Mapping[str, Any]]]

    def __add__(self, other: Matches) -> Matches:
        """Return the matches of both sets, which must be of the same classes."""
        both = {index: [*records, *other.by_class[index]] for index, records in self.by_class.items()}
        return Matches(self.images + other.images, both)


def score_detections(
    truth: Sequence[ImageTruth], detections: Sequence[Detections], limits: Sequence[float]
) -> DetectionScores:
    """Score detections.

    Args:
        truth: Ground truth of each picture.
        detections: Detections in each picture, in the same order and with the same class indices.
        limits: False positives per image at which recall is reported.

    Returns:
        The scores over all pictures and over the classes that occur in the ground truth.
    """
    return score_matches(match_detections(truth, detections, classes_in(truth)), limits)


def classes_in(truth: Sequence[ImageTruth]) -> list[int]:
    """Return the classes of the objects that are not ignored."""
    counted = [image.classes[~image.ignored] for image in truth]
    classes: list[int] = np.unique(np.concatenate([np.empty(0, np.int64), *counted])).tolist()
    return classes


def match_detections(truth: Sequence[ImageTruth], detections: Sequence[Detections], classes: Sequence[int]) -> Matches:
    """Match detections with ground truth, picture by picture.

    Args:
        truth: Ground truth of each picture.
        detections: Detections in each picture, in the same order and with the same class indices.
        classes: Classes to match.

    Raises:
        ValueError: The numbers of pictures differ.
    """
    if len(truth) != len(detections):
        raise ValueError(f"{len(truth)} pictures of ground truth and {len(detections)} of detections")
    by_class: dict[int, list[Mapping[str, Any]]] = {index: [] for index in classes}
    # in batches: pycocotools holds a dictionary for each box while it matches
    for start in range(0, len(truth) if classes else 0, _PICTURES_AT_A_TIME):
        part = slice(start, start + _PICTURES_AT_A_TIME)
        records = _match(truth[part], detections[part], list(classes))
        count = len(truth[part])
        for number, index in enumerate(classes):
            own = records[number * count : (number + 1) * count]
            by_class[index] += [{key: record[key] for key in _RECORD} for record in own if record is not None]
    return Matches(len(truth), by_class)


def score_matches(matches: Matches, limits: Sequence[float]) -> DetectionScores:
    """Score matched detections.

    Args:
        matches: The matches.
        limits: False positives per image at which recall is reported.
    """
    objects = {index: _objects(records) for index, records in matches.by_class.items()}
    classes = [index for index, count in objects.items() if count]
    if not classes:
        return DetectionScores(np.nan, np.nan, dict.fromkeys(limits, np.nan), matches.images, 0)
    precision = np.array([_precision(matches.by_class[index]) for index in classes])  # classes x thresholds x recalls
    recalls = np.array([_recalls(matches.by_class[index], objects[index], matches.images, limits) for index in classes])
    return DetectionScores(
        map50=float(precision[:, 0].mean()),
        map50_95=float(precision.mean()),
        recalls=dict(zip(limits, recalls.mean(axis=0).tolist(), strict=True)),
        images=matches.images,
        objects=sum(objects.values()),
    )


def mot_truth(table: MotTable, rules: Rules, frames: int) -> list[ImageTruth]:
    """Convert ground truth of a sequence to ground truth of detection in each frame.

    Boxes are those of the benchmark, amodal and not clipped at the border. Distractors and people with flag zero are
    ignored; rows of other classes are dropped.

    Args:
        table: Ground truth.
        rules: Rules of the benchmark.
        frames: Length of the sequence.

    Raises:
        InvalidData: A row is after the end of the sequence, or a class is unknown; the message names file and line.
    """
    check_truth(table, rules, frames)
    flagged = table.scores.astype(np.int64) != 0
    if rules.classes:
        people = table.classes == PEDESTRIAN
        relevant = people | np.isin(table.classes, list(rules.distractors))
        ignored = ~(people & flagged)
    else:
        relevant, ignored = np.ones(len(table), np.bool_), ~flagged
    corners = np.concatenate([table.ltwh[:, :2] - 1, table.ltwh[:, :2] - 1 + table.ltwh[:, 2:]], axis=1)
    parts = np.split(np.arange(len(table)), np.searchsorted(table.frames, np.arange(1, frames)))
    rows = [part[relevant[part]] for part in parts]
    return [ImageTruth(corners[part], np.zeros(len(part), np.int64), ignored[part]) for part in rows][:frames]


def _match(truth: Sequence[ImageTruth], detections: Sequence[Detections], classes: list[int]) -> list[Any]:
    """Return pycocotools' records: one per class and picture, None without objects and detections of the class."""
    with required_extra("lab", _REQUIRED_BY):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints every step
        truth_set, detection_set = COCO(), COCO()
        truth_set.dataset = _dataset([_truth_rows(image) for image in truth], classes)
        detection_set.dataset = _dataset([_detection_rows(image) for image in detections], classes)
        truth_set.createIndex()
        detection_set.createIndex()
        evaluation = COCOeval(truth_set, detection_set, "bbox")
        _set_up(evaluation.params, max([1, *map(len, detections)]))
        evaluation.evaluate()
    records: list[Any] = evaluation.evalImgs
    return records


def _precision(records: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return the precision of one class at each threshold of IoU and each of the 101 recalls."""
    with required_extra("lab", _REQUIRED_BY):
        from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(iouType="bbox")
    _set_up(evaluation.params, max([1, *(len(record["dtScores"]) for record in records)]))
    evaluation.params.imgIds, evaluation.params.catIds = list(range(len(records))), [0]
    evaluation._paramsEval = copy.deepcopy(evaluation.params)  # `accumulate` reads what `evaluate` sets
    evaluation.evalImgs = list(records)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"][:, :, 0, 0, 0])


def _set_up(parameters: Any, most: int) -> None:
    parameters.iouThrs = _THRESHOLDS
    parameters.areaRng, parameters.areaRngLbl = [list(_EVERY_AREA)], ["all"]
    parameters.maxDets = [most]


def _dataset(images: list[list[dict[str, Any]]], classes: list[int]) -> dict[str, Any]:
    rows = [{**row, "image_id": image, "iscrowd": 0} for image, rows in enumerate(images) for row in rows]
    return {
        "images": [{"id": image} for image in range(len(images))],
        "categories": [{"id": index} for index in classes],
        # IDs from 1: pycocotools takes 0 for no match
        "annotations": [{**row, "id": number} for number, row in enumerate(rows, 1)],
    }


def _truth_rows(image: ImageTruth) -> list[dict[str, Any]]:
    boxes = _ltwh(image.boxes)
    rows = zip(boxes, image.classes.tolist(), image.ignored.tolist(), strict=True)
    return [
        {"bbox": box, "category_id": index, "area": _OUTSIDE if ignored else box[2] * box[3]}
        for box, index, ignored in rows
    ]


def _detection_rows(detections: Detections) -> list[dict[str, Any]]:
    boxes = _ltwh(detections.boxes.astype(np.float64))
    rows = zip(boxes, detections.classes.tolist(), detections.scores.tolist(), strict=True)
    return [{"bbox": box, "category_id": index, "score": score, "area": box[2] * box[3]} for box, index, score in rows]


def _ltwh(boxes: NDArray[np.float64]) -> list[list[float]]:
    rows: list[list[float]] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    return rows


def _objects(records: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(np.count_nonzero(~np.asarray(record["gtIgnore"], bool))) for record in records)


def _recalls(records: Sequence[Mapping[str, Any]], objects: int, images: int, limits: Sequence[float]) -> list[float]:
    """Return the recall of one class at IoU 0.5, with at most each limit of false positives per image."""
    counted = np.concatenate([~record["dtIgnore"][0].astype(bool) for record in records])
    scores = np.concatenate([record["dtScores"] for record in records])[counted]
    matched = np.concatenate([record["dtMatches"][0] > 0 for record in records])[counted]
    order = np.argsort(-scores, kind="stable")
    scores, matched = scores[order], matched[order]
    # a confidence threshold keeps all detections of one confidence or none
    last = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.empty(0, bool)
    true, false = np.cumsum(matched)[last], np.cumsum(~matched)[last]
    within = [true[false <= limit * images + _ROUNDING] for limit in limits]
    return [float(part[-1]) / objects if part.size else 0.0 for part in within]

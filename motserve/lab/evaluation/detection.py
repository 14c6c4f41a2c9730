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
from motserve.results import MotTable
from motserve.types import BoolArray, Detections, IntArray

_THRESHOLDS: Final = np.linspace(0.5, 0.95, 10)
_EVERY_AREA: Final = (0.0, 1e10)
_ROUNDING: Final = 1e-9  # 0.29 false positives per image over 100 images are 29, not 28.999999999999996
_PICTURES_AT_A_TIME: Final = 128
_RECORD: Final = ("dtMatches", "dtScores", "dtIgnore", "gtIgnore")  # what is needed of a match
_OUTSIDE: Final = 2e10  # an area that pycocotools counts as neither to be found nor false to report


DETECTION_COUNTS: Final = ("images", "objects")
"""Names of the scores that are whole numbers; the others are fractions."""


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """What is to be found in one picture.

    Attributes:
        boxes: `(n, 4)` float64, xyxy in pixels; they may reach beyond the picture.
        classes: `(n,)` int64, class of each.
        ignored: `(n,)` bool, True where it is neither missed nor false to report.
    """

    boxes: NDArray[np.float64]
    classes: IntArray
    ignored: BoolArray


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """Scores over a set of pictures, the mean over the classes that occur. Fractions, nan where nothing is to be found.

    Attributes:
        map50: Average precision at IoU 0.5.
        map50_95: Mean of average precision at IoU 0.5 to 0.95.
        recalls: Recall at IoU 0.5 by the false positives per image that it costs at the most.
        images: Pictures.
        objects: Objects to be found.
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
    """What became of each detection of a set of pictures; sets can be added.

    Attributes:
        images: Number of pictures.
        by_class: Of each class that was looked for, pycocotools' record of every picture in which it occurs.
    """

    images: int
    by_class: Mapping[int, Sequence[Mapping[str, Any]]]

    def __add__(self, other: Matches) -> Matches:
        """Return the matches of both sets together; they must have been matched for the same classes."""
        both = {index: [*records, *other.by_class[index]] for index, records in self.by_class.items()}
        return Matches(self.images + other.images, both)


def score_detections(
    truth: Sequence[ImageTruth], found: Sequence[Detections], limits: Sequence[float]
) -> DetectionScores:
    """Score detections.

    Args:
        truth: What is to be found in each picture.
        found: What was found in each, in the same order and with the same class indices.
        limits: False positives per image at which recall is reported.

    Returns:
        The scores over all pictures and over the classes that are to be found somewhere.
    """
    return score_matches(match_detections(truth, found, classes_in(truth)), limits)


def classes_in(truth: Sequence[ImageTruth]) -> list[int]:
    """Return the classes that are to be found in some of the pictures."""
    counted = [image.classes[~image.ignored] for image in truth]
    classes: list[int] = np.unique(np.concatenate([np.empty(0, np.int64), *counted])).tolist()
    return classes


def match_detections(truth: Sequence[ImageTruth], found: Sequence[Detections], classes: Sequence[int]) -> Matches:
    """Match detections with what is to be found, picture by picture.

    Args:
        truth: What is to be found in each picture.
        found: What was found in each, in the same order and with the same class indices.
        classes: Classes that are matched.

    Raises:
        ValueError: There are more pictures of one than of the other.
    """
    if len(truth) != len(found):
        raise ValueError(f"{len(truth)} pictures of ground truth and {len(found)} of detections")
    by_class: dict[int, list[Mapping[str, Any]]] = {index: [] for index in classes}
    # some pictures at a time: pycocotools keeps a dictionary for each box while it matches
    for start in range(0, len(truth) if classes else 0, _PICTURES_AT_A_TIME):
        part = slice(start, start + _PICTURES_AT_A_TIME)
        records = _match(truth[part], found[part], list(classes))
        count = len(truth[part])
        for number, index in enumerate(classes):
            own = records[number * count : (number + 1) * count]
            by_class[index] += [{key: record[key] for key in _RECORD} for record in own if record is not None]
    return Matches(len(truth), by_class)


def score_matches(matches: Matches, limits: Sequence[float]) -> DetectionScores:
    """Score detections that were matched.

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
    """Turn ground truth of a sequence into what a detector shall find in each frame.

    Boxes are those of the benchmark, amodal and not cut at the border. People whose flag is zero and distractors are
    ignored; rows of other classes are left out.

    Args:
        table: Ground truth.
        rules: Rules of the benchmark.
        frames: Length of the sequence.

    Raises:
        InvalidData: A row lies behind the end of the sequence, or a class is unknown; the message names file and line.
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


def _match(truth: Sequence[ImageTruth], found: Sequence[Detections], classes: list[int]) -> list[Any]:
    """Return pycocotools' records: for each class one for each picture, None where it is neither there nor found."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every step
        truth_set, found_set = COCO(), COCO()
        truth_set.dataset = _dataset([_truth_rows(image) for image in truth], classes)
        found_set.dataset = _dataset([_found_rows(image) for image in found], classes)
        truth_set.createIndex()
        found_set.createIndex()
        evaluation = COCOeval(truth_set, found_set, "bbox")
        _set_up(evaluation.params, max([1, *map(len, found)]))
        evaluation.evaluate()
    records: list[Any] = evaluation.evalImgs
    return records


def _precision(records: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return the precision of one class at each threshold of IoU and each of the 101 recalls."""
    from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(iouType="bbox")
    _set_up(evaluation.params, max([1, *(len(record["dtScores"]) for record in records)]))
    evaluation.params.imgIds, evaluation.params.catIds = list(range(len(records))), [0]
    evaluation._paramsEval = copy.deepcopy(evaluation.params)  # what `evaluate` leaves for `accumulate`
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


def _found_rows(found: Detections) -> list[dict[str, Any]]:
    boxes = _ltwh(found.boxes.astype(np.float64))
    rows = zip(boxes, found.classes.tolist(), found.scores.tolist(), strict=True)
    return [{"bbox": box, "category_id": index, "score": score, "area": box[2] * box[3]} for box, index, score in rows]


def _ltwh(boxes: NDArray[np.float64]) -> list[list[float]]:
    rows: list[list[float]] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    return rows


def _objects(records: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(np.count_nonzero(~np.asarray(record["gtIgnore"], bool))) for record in records)


def _recalls(records: Sequence[Mapping[str, Any]], objects: int, images: int, limits: Sequence[float]) -> list[float]:
    """Return recall of one class at IoU 0.5, where the false positives per image stay within each limit."""
    counted = np.concatenate([~record["dtIgnore"][0].astype(bool) for record in records])
    scores = np.concatenate([record["dtScores"] for record in records])[counted]
    hits = np.concatenate([record["dtMatches"][0] > 0 for record in records])[counted]
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    # a limit on the confidence keeps all detections of that confidence or none
    last = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.empty(0, bool)
    found, false = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    within = [found[false <= limit * images + _ROUNDING] for limit in limits]
    return [float(part[-1]) / objects if part.size else 0.0 for part in within]

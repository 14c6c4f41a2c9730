from __future__ import annotations

import contextlib
import io
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from motserve.errors import InvalidData
from motserve.lab.evaluation import rules_for
from motserve.lab.evaluation.detection import DetectionScores, ImageTruth, mot_truth, recall_name, score_detections
from motserve.results import read_mot
from motserve.types import Detections

Box = tuple[float, float, float, float]
Seen = tuple[Box, float]

LEFT: Box = (0, 0, 10, 20)
RIGHT: Box = (100, 0, 110, 20)
NOWHERE: Box = (500, 500, 510, 520)


def objects(*boxes: Box, classes: list[int] | None = None, ignored: tuple[int, ...] = ()) -> ImageTruth:
    """Ground truth of a picture; `ignored` are indices of the boxes."""
    marks = np.isin(np.arange(len(boxes)), ignored)
    return ImageTruth(np.array(boxes, float).reshape(-1, 4), np.array(classes or [0] * len(boxes), np.int64), marks)


def detected(*rows: Seen, classes: list[int] | None = None) -> Detections:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in rows], np.float32)
    return Detections(boxes, scores, np.array(classes or [0] * len(rows), np.int64))


def score(
    truth: list[ImageTruth], detections: list[Detections], limits: tuple[float, ...] = (0.1, 1.0)
) -> DetectionScores:
    return score_detections(truth, detections, limits)


def test_perfect_detections_score_one() -> None:
    scores = score([objects(LEFT, RIGHT)], [detected((LEFT, 0.9), (RIGHT, 0.3))])
    assert scores.as_dict() == {
        "mAP50": 1, "mAP50-95": 1, "recall@0.1FPPI": 1, "recall@1FPPI": 1, "images": 1, "objects": 2,
    }  # fmt: skip


def test_no_detections_score_zero() -> None:
    scores = score([objects(LEFT, RIGHT), objects()], [detected(), detected()])
    assert (scores.map50, scores.map50_95, scores.recalls, scores.objects) == (0, 0, {0.1: 0, 1: 0}, 2)


def test_average_precision_by_hand() -> None:
    scores = score([objects(LEFT, RIGHT)], [detected((LEFT, 0.9), (NOWHERE, 0.8), (RIGHT, 0.7))])
    # precision is 1 at the 51 recalls up to 0.5 and 2/3 at the 50 above
    assert scores.map50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores.map50_95 == pytest.approx(scores.map50)


def test_precision_is_zero_at_recalls_that_are_not_reached() -> None:
    scores = score([objects(LEFT, RIGHT)], [detected((LEFT, 0.9))])
    assert scores.map50 == pytest.approx(51 / 101)


def test_false_alarms_below_all_matches_do_not_lower_the_score() -> None:
    assert score([objects(LEFT)], [detected((LEFT, 0.9), (NOWHERE, 0.8), (NOWHERE, 0.7))]).map50 == pytest.approx(1)
    assert score([objects(LEFT)], [detected((LEFT, 0.7), (NOWHERE, 0.8), (NOWHERE, 0.9))]).map50 == pytest.approx(1 / 3)


def test_false_alarms_in_empty_pictures_count() -> None:
    scores = score([objects(LEFT), objects()], [detected((LEFT, 0.5)), detected((NOWHERE, 0.9))])
    assert scores.map50 == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("width", "thresholds"), [(10, 10), (9.5, 10), (9.4, 9), (7.2, 5), (5, 1), (4.99, 0)]
)  # IoU is width / 10, the thresholds are 0.5, 0.55 … 0.95
def test_a_box_matches_at_the_iou_thresholds_that_it_reaches(width: float, thresholds: int) -> None:
    scores = score([objects((0, 0, 10, 16))], [detected(((0, 0, width, 16), 0.9))])
    assert scores.map50_95 == pytest.approx(thresholds / 10, abs=1e-9)
    assert scores.map50 == pytest.approx(int(thresholds > 0))


def test_a_second_box_on_the_same_person_is_a_false_positive() -> None:
    twice = detected((LEFT, 0.9), (LEFT, 0.8), (RIGHT, 0.7))
    assert score([objects(LEFT, RIGHT)], [twice]).map50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_ignored_objects_are_neither_misses_nor_false_positives() -> None:
    truth = [objects(LEFT, RIGHT, ignored=(1,))]
    for detections in (detected((LEFT, 0.5)), detected((LEFT, 0.5), (RIGHT, 0.9))):
        scores = score(truth, [detections])
        assert (scores.map50, scores.recalls[0.1], scores.objects) == pytest.approx((1, 1, 1))


def test_an_ignored_object_absorbs_only_one_box() -> None:
    truth = [objects(LEFT, RIGHT, ignored=(1,))]
    assert score(truth, [detected((RIGHT, 0.9), (RIGHT, 0.8), (LEFT, 0.7))]).map50 == pytest.approx(1 / 2)


def test_a_box_matches_a_counted_object_before_an_ignored_one() -> None:
    behind: Box = (1, 0, 11, 20)
    assert score([objects(behind, LEFT, ignored=(0,))], [detected((behind, 0.9))]).recalls[0.1] == 1


def test_only_ignored_objects_give_no_score() -> None:
    for truth in ([], [objects()], [objects(LEFT, ignored=(0,))]):
        scores = score(truth, [detected((LEFT, 0.9)) for _ in truth])
        assert isnan(scores.map50)
        assert isnan(scores.map50_95)
        assert all(isnan(value) for value in scores.recalls.values())
        assert (scores.images, scores.objects) == (len(truth), 0)


def test_the_mean_is_over_the_classes_that_occur() -> None:
    truth = [objects(LEFT, RIGHT, classes=[0, 5])]
    one = score(truth, [detected((LEFT, 0.9), classes=[0])])
    assert (one.map50, one.recalls[1.0], one.objects) == pytest.approx((0.5, 0.5, 2))
    # a box of another class is no match, and one of a class without ground truth is not scored
    other = score(truth, [detected((LEFT, 0.9), (RIGHT, 0.9), (NOWHERE, 0.99), classes=[0, 0, 7])])
    assert (other.map50, other.recalls[1.0]) == pytest.approx((0.5, 0.5))
    both = score(truth, [detected((LEFT, 0.9), (RIGHT, 0.1), classes=[0, 5])])
    assert both.map50 == pytest.approx(1)


FOUR = [objects(LEFT), objects(LEFT), objects(LEFT), objects(LEFT)]
FOUND_IN_FOUR = [
    detected((LEFT, 0.9), (NOWHERE, 0.6)),
    detected((LEFT, 0.7), (NOWHERE, 0.8)),
    detected((LEFT, 0.5)),
    detected((LEFT, 0.3), (NOWHERE, 0.4), (RIGHT, 0.4)),
]
"""By confidence: match .9, false .8, match .7, false .6, match .5, false .4, false .4, match .3."""


@pytest.mark.parametrize(
    ("limit", "recall"),
    [(0.01, 0.25), (0.24, 0.25), (0.25, 0.5), (0.49, 0.5), (0.5, 0.75), (0.75, 0.75), (0.99, 0.75), (1, 1), (9, 1)],
)
def test_recall_at_false_positives_per_image_by_hand(limit: float, recall: float) -> None:
    scores = score(FOUR, FOUND_IN_FOUR, (limit,))
    assert scores.recalls == {limit: recall}


def test_boxes_of_equal_confidence_count_together() -> None:
    # a threshold that includes the match includes the two false positives, in any order
    for detections in (
        detected((LEFT, 0.5), (NOWHERE, 0.5), (RIGHT, 0.5)),
        detected((NOWHERE, 0.5), (RIGHT, 0.5), (LEFT, 0.5)),
    ):
        assert score([objects(LEFT)], [detections], (1, 2)).recalls == {1: 0, 2: 1}


def test_rounding_does_not_change_the_limit() -> None:
    # 0.29 * 100 is a little less than 29 in floating point
    truth = [objects(LEFT)] + [objects()] * 99
    detections = [detected((LEFT, 0.1))] + [detected((NOWHERE, 0.9))] * 29 + [detected()] * 70
    assert score(truth, detections, (0.29, 0.28)).recalls == {0.29: 1, 0.28: 0}


def test_more_boxes_than_the_default_of_pycocotools_are_scored() -> None:
    crowd = [(20.0 * i, 0.0, 20.0 * i + 10, 20.0) for i in range(150)]
    assert score([objects(*crowd)], [detected(*[(box, 0.5) for box in crowd])]).map50 == pytest.approx(1)


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 pictures of ground truth and 2"):
        score([objects()], [detected(), detected()])


def test_names_of_recalls() -> None:
    assert [recall_name(limit) for limit in (0.1, 1.0, 2.5)] == ["recall@0.1FPPI", "recall@1FPPI", "recall@2.5FPPI"]


def random_pictures(seed: int) -> tuple[list[ImageTruth], list[Detections]]:
    """Objects of three classes, some ignored, and detections with noise, duplicates, misses and false alarms."""
    random = np.random.default_rng(seed)
    truth, detections = [], []
    for _ in range(12):
        count = int(random.integers(0, 9))
        corner, size = random.uniform(0, 300, (count, 2)), random.uniform(8, 90, (count, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        classes = random.choice([0, 1, 4], count)
        truth.append(ImageTruth(boxes, classes, random.random(count) < 0.2))
        rows = np.flatnonzero(random.random(count) < 0.8)
        rows = np.concatenate([rows, rows[random.random(len(rows)) < 0.2]])
        scattered = boxes[rows] + random.normal(0, 4, (len(rows), 4))
        alarms = random.uniform(0, 250, (int(random.integers(0, 5)), 4))
        alarms[:, 2:] = alarms[:, :2] + random.uniform(8, 90, (len(alarms), 2))
        seen = np.concatenate([scattered, alarms]).astype(np.float32)
        seen[:, 2:] = np.maximum(seen[:, 2:], seen[:, :2] + 1)
        labels = np.concatenate([classes[rows], random.choice([0, 1, 4], len(alarms))])
        confidence = np.round(random.uniform(0, 1, len(seen)), 2).astype(np.float32)  # with ties
        detections.append(Detections(seen, confidence, labels))
    return truth, detections


def summary_of_pycocotools(truth: list[ImageTruth], detections: list[Detections]) -> tuple[float, float]:
    """Return mAP50-95 and mAP50 by pycocotools alone: `loadRes`, default parameters, `summarize`."""
    annotations, results = [], []
    for image, (shown, seen) in enumerate(zip(truth, detections, strict=True), 1):
        for box, label, ignored in zip(shown.boxes, shown.classes, shown.ignored, strict=True):
            left, top, right, bottom = box.tolist()
            # pycocotools ignores objects whose area is outside of its ranges
            area = 1e11 if ignored else (right - left) * (bottom - top)
            rectangle = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(label), "bbox": rectangle,
                 "area": area, "iscrowd": 0}
            )  # fmt: skip
        for edges, label, confidence in zip(seen.boxes.astype(float), seen.classes, seen.scores, strict=True):
            left, top, right, bottom = edges.tolist()
            rectangle = [left, top, right - left, bottom - top]
            results.append(
                {"image_id": image, "category_id": int(label), "bbox": rectangle, "score": float(confidence)}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(truth) + 1)],
            "categories": [{"id": label} for label in (0, 1, 4)],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(8))
def test_scores_equal_those_of_pycocotools(seed: int) -> None:
    truth, detections = random_pictures(seed)
    scores = score(truth, detections)
    assert 0.1 < scores.map50_95 < scores.map50 < 0.9
    assert (scores.map50_95, scores.map50) == pytest.approx(summary_of_pycocotools(truth, detections), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_boxes_and_pictures_does_not_matter(seed: int) -> None:
    truth, detections = random_pictures(seed)
    random = np.random.default_rng(seed)
    ranks = iter(random.permutation(sum(map(len, detections))) / 1000)  # without ties
    detections = [
        Detections(seen.boxes, np.fromiter(ranks, np.float32, len(seen)), seen.classes) for seen in detections
    ]
    order = random.permutation(len(truth)).tolist()
    reversed_order = [Detections(seen.boxes[::-1], seen.scores[::-1], seen.classes[::-1]) for seen in detections]
    shuffled = score([truth[i] for i in order], [reversed_order[i] for i in order], (0.2, 1.3))
    assert shuffled.as_dict() == pytest.approx(score(truth, detections, (0.2, 1.3)).as_dict(), abs=1e-12)


def mot_file(folder: Path, rows: str) -> Path:
    path = folder / "gt.txt"
    path.write_text(rows)
    return path


def test_ground_objects_a_benchmark_as_pictures(tmp_path: Path) -> None:
    rows = (
        "1,1,11,21,30,60,1,1,1\n"  # counts
        "1,2,-4,1,30,60,1,1,0\n"  # counts, although it extends beyond the picture and is not visible
        "1,3,101,21,30,60,0,1,1\n"  # flagged zero
        "1,4,201,21,30,60,1,8,1\n"  # distractor
        "1,5,301,21,30,60,0,7,1\n"  # distractor, flagged zero
        "1,6,401,21,30,60,1,3,1\n"  # a car is dropped
        "1,7,501,21,30,60,0,9,1\n"
        "3,1,12,21,30,60,1,1,1\n"
    )
    table = read_mot(mot_file(tmp_path, rows))
    first, second, third, fourth = mot_truth(table, rules_for("A", table), 4)
    assert first.boxes.tolist() == [
        [10, 20, 40, 80], [-5, 0, 25, 60], [100, 20, 130, 80], [200, 20, 230, 80], [300, 20, 330, 80],
    ]  # fmt: skip
    assert first.ignored.tolist() == [False, False, True, True, True]
    assert first.classes.tolist() == [0] * 5
    assert (len(second.boxes), len(third.boxes), len(fourth.boxes)) == (0, 1, 0)


def test_boxes_distractors_and_uncounted_people_are_not_false_positives(tmp_path: Path) -> None:
    rows = "1,1,1,1,10,20,1,1,1\n1,2,101,1,10,20,1,8,1\n1,3,201,1,10,20,0,1,1\n1,4,301,1,10,20,1,3,1\n"
    table = read_mot(mot_file(tmp_path, rows))
    truth = mot_truth(table, rules_for("A", table), 1)
    person, distractor, uncounted, car = ((x, 0.0, x + 10, 20.0) for x in (0.0, 100.0, 200.0, 300.0))
    fine = score(truth, [detected((distractor, 0.9), (uncounted, 0.8), (person, 0.7))])
    assert (fine.map50, fine.recalls[0.1], fine.objects) == pytest.approx((1, 1, 1))
    blamed = score(truth, [detected((car, 0.9), (person, 0.7))])
    assert (blamed.map50, blamed.recalls[0.1], blamed.recalls[1.0]) == pytest.approx((0.5, 0, 1))


def test_ground_truth_without_classes_counts_by_its_flag(tmp_path: Path) -> None:
    table = read_mot(mot_file(tmp_path, "1,1,1,1,10,20,1,-1,-1,-1\n1,2,101,1,10,20,0,7.5,2,0\n"))
    (picture,) = mot_truth(table, rules_for("A", table), 1)
    assert picture.ignored.tolist() == [False, True]


@pytest.mark.parametrize("frames", [2, 1, 0])
def test_ground_truth_after_the_end_is_refused(tmp_path: Path, frames: int) -> None:
    table = read_mot(mot_file(tmp_path, "1,1,1,1,10,20,1,1,1\n3,1,1,1,10,20,1,1,1\n"))
    with pytest.raises(InvalidData, match=rf"gt\.txt, line {2 if frames else 1}: frame . of a sequence of {frames}"):
        mot_truth(table, rules_for("A", table), frames)


def test_rules_with_classes_need_a_file_with_classes(tmp_path: Path) -> None:
    table = read_mot(mot_file(tmp_path, "1,1,1,1,10,20,1,-1,-1,-1\n"))
    with pytest.raises(InvalidData, match=r"gt\.txt, line 1: class -1 is unknown to mot17.*10 columns"):
        mot_truth(table, rules_for("A", table, "mot17"), 1)


def test_real_detections_against_pycocotools(data_dir: Path) -> None:
    table = read_mot(data_dir / "mot/TUD-Campus/gt/gt.txt")
    truth = mot_truth(table, rules_for("TUD-Campus", table), 71)
    table = read_mot(data_dir / "dets/yolov8n_640/TUD-Campus.txt")
    detections = []
    for frame in range(71):
        rows = table.frames == frame
        detections.append(Detections(table.boxes[rows], table.scores[rows], np.zeros(rows.sum(), np.int64)))
    scores = score(truth, detections)
    assert scores.objects == 359
    assert scores.map50 > 0.5
    # pycocotools leaves categories without ground truth out of its mean
    assert (scores.map50_95, scores.map50) == pytest.approx(summary_of_pycocotools(truth, detections), abs=1e-12)

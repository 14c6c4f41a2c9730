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


def shows(*boxes: Box, classes: list[int] | None = None, ignored: tuple[int, ...] = ()) -> ImageTruth:
    """A picture with something to be found; `ignored` are places among the boxes."""
    marks = np.isin(np.arange(len(boxes)), ignored)
    return ImageTruth(np.array(boxes, float).reshape(-1, 4), np.array(classes or [0] * len(boxes), np.int64), marks)


def sees(*rows: Seen, classes: list[int] | None = None) -> Detections:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in rows], np.float32)
    return Detections(boxes, scores, np.array(classes or [0] * len(rows), np.int64))


def score(truth: list[ImageTruth], found: list[Detections], limits: tuple[float, ...] = (0.1, 1.0)) -> DetectionScores:
    return score_detections(truth, found, limits)


def test_everything_found_is_one() -> None:
    scores = score([shows(LEFT, RIGHT)], [sees((LEFT, 0.9), (RIGHT, 0.3))])
    assert scores.as_dict() == {
        "mAP50": 1, "mAP50-95": 1, "recall@0.1FPPI": 1, "recall@1FPPI": 1, "images": 1, "objects": 2,
    }  # fmt: skip


def test_nothing_found_is_zero() -> None:
    scores = score([shows(LEFT, RIGHT), shows()], [sees(), sees()])
    assert (scores.map50, scores.map50_95, scores.recalls, scores.objects) == (0, 0, {0.1: 0, 1: 0}, 2)


def test_average_precision_by_hand() -> None:
    scores = score([shows(LEFT, RIGHT)], [sees((LEFT, 0.9), (NOWHERE, 0.8), (RIGHT, 0.7))])
    # precision is 1 at the 51 recalls up to 0.5 and 2/3 at the 50 above
    assert scores.map50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores.map50_95 == pytest.approx(scores.map50)


def test_recalls_that_are_not_reached_have_no_precision() -> None:
    scores = score([shows(LEFT, RIGHT)], [sees((LEFT, 0.9))])
    assert scores.map50 == pytest.approx(51 / 101)


def test_false_alarms_below_all_hits_cost_nothing() -> None:
    assert score([shows(LEFT)], [sees((LEFT, 0.9), (NOWHERE, 0.8), (NOWHERE, 0.7))]).map50 == pytest.approx(1)
    assert score([shows(LEFT)], [sees((LEFT, 0.7), (NOWHERE, 0.8), (NOWHERE, 0.9))]).map50 == pytest.approx(1 / 3)


def test_false_alarms_in_empty_pictures_count() -> None:
    scores = score([shows(LEFT), shows()], [sees((LEFT, 0.5)), sees((NOWHERE, 0.9))])
    assert scores.map50 == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("width", "thresholds"), [(10, 10), (9.5, 10), (9.4, 9), (7.2, 5), (5, 1), (4.99, 0)]
)  # IoU is width / 10, the thresholds are 0.5, 0.55 … 0.95
def test_a_box_counts_at_the_thresholds_that_it_reaches(width: float, thresholds: int) -> None:
    scores = score([shows((0, 0, 10, 16))], [sees(((0, 0, width, 16), 0.9))])
    assert scores.map50_95 == pytest.approx(thresholds / 10, abs=1e-9)
    assert scores.map50 == pytest.approx(int(thresholds > 0))


def test_a_second_box_on_the_same_person_is_false() -> None:
    twice = sees((LEFT, 0.9), (LEFT, 0.8), (RIGHT, 0.7))
    assert score([shows(LEFT, RIGHT)], [twice]).map50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_what_is_ignored_is_neither_missed_nor_false() -> None:
    truth = [shows(LEFT, RIGHT, ignored=(1,))]
    for found in (sees((LEFT, 0.5)), sees((LEFT, 0.5), (RIGHT, 0.9))):
        scores = score(truth, [found])
        assert (scores.map50, scores.recalls[0.1], scores.objects) == pytest.approx((1, 1, 1))


def test_what_is_ignored_hides_one_box_only() -> None:
    truth = [shows(LEFT, RIGHT, ignored=(1,))]
    assert score(truth, [sees((RIGHT, 0.9), (RIGHT, 0.8), (LEFT, 0.7))]).map50 == pytest.approx(1 / 2)


def test_a_box_goes_to_who_counts_before_it_goes_to_who_is_ignored() -> None:
    behind: Box = (1, 0, 11, 20)
    assert score([shows(behind, LEFT, ignored=(0,))], [sees((behind, 0.9))]).recalls[0.1] == 1


def test_only_ignored_objects_leave_nothing_to_be_found() -> None:
    for truth in ([], [shows()], [shows(LEFT, ignored=(0,))]):
        scores = score(truth, [sees((LEFT, 0.9)) for _ in truth])
        assert isnan(scores.map50)
        assert isnan(scores.map50_95)
        assert all(isnan(value) for value in scores.recalls.values())
        assert (scores.images, scores.objects) == (len(truth), 0)


def test_the_mean_is_over_the_classes_that_occur() -> None:
    truth = [shows(LEFT, RIGHT, classes=[0, 5])]
    one = score(truth, [sees((LEFT, 0.9), classes=[0])])
    assert (one.map50, one.recalls[1.0], one.objects) == pytest.approx((0.5, 0.5, 2))
    # a box of another class is no hit, and one of a class that occurs nowhere is not scored
    other = score(truth, [sees((LEFT, 0.9), (RIGHT, 0.9), (NOWHERE, 0.99), classes=[0, 0, 7])])
    assert (other.map50, other.recalls[1.0]) == pytest.approx((0.5, 0.5))
    both = score(truth, [sees((LEFT, 0.9), (RIGHT, 0.1), classes=[0, 5])])
    assert both.map50 == pytest.approx(1)


FOUR = [shows(LEFT), shows(LEFT), shows(LEFT), shows(LEFT)]
FOUND_IN_FOUR = [
    sees((LEFT, 0.9), (NOWHERE, 0.6)),
    sees((LEFT, 0.7), (NOWHERE, 0.8)),
    sees((LEFT, 0.5)),
    sees((LEFT, 0.3), (NOWHERE, 0.4), (RIGHT, 0.4)),
]
"""By confidence: hit .9, false .8, hit .7, false .6, hit .5, false .4, false .4, hit .3."""


@pytest.mark.parametrize(
    ("limit", "recall"),
    [(0.01, 0.25), (0.24, 0.25), (0.25, 0.5), (0.49, 0.5), (0.5, 0.75), (0.75, 0.75), (0.99, 0.75), (1, 1), (9, 1)],
)
def test_recall_at_false_positives_per_image_by_hand(limit: float, recall: float) -> None:
    scores = score(FOUR, FOUND_IN_FOUR, (limit,))
    assert scores.recalls == {limit: recall}


def test_boxes_of_one_confidence_are_taken_together() -> None:
    # the detector with the match also has the two false detections, in any order
    for found in (sees((LEFT, 0.5), (NOWHERE, 0.5), (RIGHT, 0.5)), sees((NOWHERE, 0.5), (RIGHT, 0.5), (LEFT, 0.5))):
        assert score([shows(LEFT)], [found], (1, 2)).recalls == {1: 0, 2: 1}


def test_a_limit_is_not_missed_by_rounding() -> None:
    # 0.29 * 100 is a little less than 29 in floating point
    truth = [shows(LEFT)] + [shows()] * 99
    found = [sees((LEFT, 0.1))] + [sees((NOWHERE, 0.9))] * 29 + [sees()] * 70
    assert score(truth, found, (0.29, 0.28)).recalls == {0.29: 1, 0.28: 0}


def test_more_boxes_than_pycocotools_takes_by_itself() -> None:
    crowd = [(20.0 * i, 0.0, 20.0 * i + 10, 20.0) for i in range(150)]
    assert score([shows(*crowd)], [sees(*[(box, 0.5) for box in crowd])]).map50 == pytest.approx(1)


def test_lists_of_different_length_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="1 pictures of ground truth and 2"):
        score([shows()], [sees(), sees()])


def test_names_of_recalls() -> None:
    assert [recall_name(limit) for limit in (0.1, 1.0, 2.5)] == ["recall@0.1FPPI", "recall@1FPPI", "recall@2.5FPPI"]


def random_pictures(seed: int) -> tuple[list[ImageTruth], list[Detections]]:
    """Objects of three classes, some of them ignored, found with scatter, doubles, misses and false alarms."""
    random = np.random.default_rng(seed)
    truth, found = [], []
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
        found.append(Detections(seen, confidence, labels))
    return truth, found


def summary_of_pycocotools(truth: list[ImageTruth], found: list[Detections]) -> tuple[float, float]:
    """mAP50-95 and mAP50 as pycocotools' users get them: `loadRes`, default parameters, `summarize`."""
    annotations, results = [], []
    for image, (shown, seen) in enumerate(zip(truth, found, strict=True), 1):
        for box, label, ignored in zip(shown.boxes, shown.classes, shown.ignored, strict=True):
            left, top, right, bottom = box.tolist()
            # pycocotools knows ignored objects by an area outside of its ranges
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
def test_pycocotools_itself_says_the_same(seed: int) -> None:
    truth, found = random_pictures(seed)
    scores = score(truth, found)
    assert 0.1 < scores.map50_95 < scores.map50 < 0.9
    assert (scores.map50_95, scores.map50) == pytest.approx(summary_of_pycocotools(truth, found), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_boxes_and_pictures_does_not_matter(seed: int) -> None:
    truth, found = random_pictures(seed)
    random = np.random.default_rng(seed)
    ranks = iter(random.permutation(sum(map(len, found))) / 1000)  # no two alike
    found = [Detections(seen.boxes, np.fromiter(ranks, np.float32, len(seen)), seen.classes) for seen in found]
    order = random.permutation(len(truth)).tolist()
    turned = [Detections(seen.boxes[::-1], seen.scores[::-1], seen.classes[::-1]) for seen in found]
    shuffled = score([truth[i] for i in order], [turned[i] for i in order], (0.2, 1.3))
    assert shuffled.as_dict() == pytest.approx(score(truth, found, (0.2, 1.3)).as_dict(), abs=1e-12)


def mot_file(folder: Path, rows: str) -> Path:
    path = folder / "gt.txt"
    path.write_text(rows)
    return path


def test_ground_truth_of_a_benchmark_as_pictures(tmp_path: Path) -> None:
    rows = (
        "1,1,11,21,30,60,1,1,1\n"  # counts
        "1,2,-4,1,30,60,1,1,0\n"  # counts, though it reaches beyond the picture and cannot be seen
        "1,3,101,21,30,60,0,1,1\n"  # flagged zero
        "1,4,201,21,30,60,1,8,1\n"  # distractor
        "1,5,301,21,30,60,0,7,1\n"  # distractor, flagged zero
        "1,6,401,21,30,60,1,3,1\n"  # a car is nothing to a detector of people
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


def test_who_finds_distractors_and_uncounted_people_is_not_blamed(tmp_path: Path) -> None:
    rows = "1,1,1,1,10,20,1,1,1\n1,2,101,1,10,20,1,8,1\n1,3,201,1,10,20,0,1,1\n1,4,301,1,10,20,1,3,1\n"
    table = read_mot(mot_file(tmp_path, rows))
    truth = mot_truth(table, rules_for("A", table), 1)
    person, distractor, uncounted, car = ((x, 0.0, x + 10, 20.0) for x in (0.0, 100.0, 200.0, 300.0))
    fine = score(truth, [sees((distractor, 0.9), (uncounted, 0.8), (person, 0.7))])
    assert (fine.map50, fine.recalls[0.1], fine.objects) == pytest.approx((1, 1, 1))
    blamed = score(truth, [sees((car, 0.9), (person, 0.7))])
    assert (blamed.map50, blamed.recalls[0.1], blamed.recalls[1.0]) == pytest.approx((0.5, 0, 1))


def test_ground_truth_without_classes_counts_by_its_flag(tmp_path: Path) -> None:
    table = read_mot(mot_file(tmp_path, "1,1,1,1,10,20,1,-1,-1,-1\n1,2,101,1,10,20,0,7.5,2,0\n"))
    (picture,) = mot_truth(table, rules_for("A", table), 1)
    assert picture.ignored.tolist() == [False, True]


@pytest.mark.parametrize("frames", [2, 1, 0])
def test_ground_truth_beyond_the_end_is_refused_and_not_put_into_the_last_picture(tmp_path: Path, frames: int) -> None:
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
    detections = read_mot(data_dir / "dets/yolov8n_640/TUD-Campus.txt")
    found = []
    for frame in range(71):
        rows = detections.frames == frame
        found.append(Detections(detections.boxes[rows], detections.scores[rows], np.zeros(rows.sum(), np.int64)))
    scores = score(truth, found)
    assert scores.objects == 359
    assert scores.map50 > 0.5
    # the categories that do not occur have no average precision and stay out of pycocotools' mean
    assert (scores.map50_95, scores.map50) == pytest.approx(summary_of_pycocotools(truth, found), abs=1e-12)

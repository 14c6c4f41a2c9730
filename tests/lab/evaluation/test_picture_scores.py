from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from experiment_data import OFF, load_written, write, write_sequence

from motserve.base import DetectorBase
from motserve.config import Config, change_config, load_config
from motserve.errors import InvalidData, NotFound
from motserve.lab.evaluation.sequences import COMBINED, find_truth
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.detections import PERSON
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.pictures import (
    LabelledPictures,
    detect_yolo,
    for_scoring,
    pictures_of,
    read_picture,
    score_pictures,
)
from motserve.lab.experiments.sequences import load_sequences
from motserve.types import Detections, Image

SIDE = 100  # of every picture, in pixels


class PixelDetector(DetectorBase):
    """Detects a square of 20 pixels; the first pixel encodes its position, the second its class."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self.pictures = 0

    @property
    def class_names(self) -> Mapping[int, str]:
        return self._names

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.pictures += len(images)
        found = []
        for image in images:
            place, index = int(image[0, 0, 0]), int(image[0, 1, 0])
            box = np.array([[place, place, place + 20, place + 20]], np.float32)
            found.append(Detections(box, np.full(1, 0.5 + place / 1000, np.float32), np.full(1, index)))
        return found


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration whose weights are a file with arbitrary content."""
    (tmp_path / "detector.onnx").write_bytes(b"weights")
    return load_config([{"detector": {"weights": str(tmp_path / "detector.onnx")}}])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> PixelDetector:
    """A detector of people and dogs."""
    computed = PixelDetector({0: "person", 16: "dog"})
    monkeypatch.setattr("motserve.lab.experiments.models.build_detector", lambda *_: computed)
    return computed


def write_picture(images: Path, name: str, place: int, label: int | None = 0, detected: int = 0) -> Path:
    """Write a picture with a square and, beside it, its label; `detected` is the class that the detector returns."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[0, 0], pixels[0, 1] = place, detected
    path = images / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    if label is not None:
        centre = (place + 10) / SIDE
        write(Path(str(path).replace("images", "labels")).with_suffix(".txt"), [f"{label} {centre} {centre} 0.2 0.2"])
    return path


def write_yaml(folder: Path, **keys: Any) -> Path:
    return write(folder / "data.yaml", [yaml.safe_dump({"names": ["person"], "val": "images", **keys})])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures, each with a person at another position."""
    for name, place in (("a", 10), ("b", 40), ("c", 70)):
        write_picture(tmp_path / "set" / "images", name, place)
    return write_yaml(tmp_path / "set")


def boxes(pictures: LabelledPictures) -> list[list[list[float]]]:
    return [detected.boxes.tolist() for detected in pictures.detections]


def map50(pictures: LabelledPictures, config: Config) -> float:
    return score_pictures([pictures], config)[pictures.name].map50


# --- a data set -------------------------------------------------------------------------------------------------------


def test_detections_in_pictures_are_scored(data: Path, config: Config, cache: Cache, detector: PixelDetector) -> None:
    reports = []
    models = Models(change_config(config, {"evaluation": {"detect_batch": 2}}))
    pictures = detect_yolo(data, "val", models, cache, lambda *what: reports.append(what))
    assert reports == [("val", 2, 3), ("val", 3, 3)]
    assert boxes(pictures) == [[[p, p, p + 20, p + 20]] for p in (10, 40, 70)]
    assert map50(pictures, config) == pytest.approx(1)
    assert pictures.data["pictures"]["files"] == 3
    assert pictures.data["labels"]["files"] == 4
    assert [int(image[0, 0, 0]) for image in pictures.sample(2)] == [10, 40]
    assert len(pictures.sample(50)) == 3


def test_cached_detections_need_no_detector(
    data: Path, config: Config, cache: Cache, detector: PixelDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = detect_yolo(data, "val", Models(config), cache)

    def fail(*arguments: object) -> None:
        raise AssertionError("the cache has the answer")

    monkeypatch.setattr("motserve.lab.experiments.models.build_detector", fail)
    monkeypatch.setattr("motserve.lab.experiments.pictures.read_picture", fail)
    cached = detect_yolo(data, "val", Models(config), cache, fail)
    assert boxes(cached) == boxes(computed)
    assert cached.data == computed.data
    assert [detected.scores.tobytes() for detected in cached.detections] == [
        detected.scores.tobytes() for detected in computed.detections
    ]
    moved = data.parent.rename(data.parent.parent / "moved") / "data.yaml"
    assert boxes(detect_yolo(moved, "val", Models(config), cache)) == boxes(computed)


def test_a_change_of_inputs_detects_again(data: Path, config: Config, cache: Cache, detector: PixelDetector) -> None:
    def detected(settings: Config = config) -> int:
        before = detector.pictures
        detect_yolo(data, "val", Models(settings), cache)
        return detector.pictures - before

    assert [detected(), detected()] == [3, 0]
    assert detected(change_config(config, {"detector": {"nms_iou": 0.3}})) == 3
    assert detected(change_config(config, {"tracker": {"high_confidence": 0.65}})) == 0
    write(data.parent / "labels" / "a.txt", ["0 0.5 0.5 0.1 0.1"])
    assert detected() == 0
    write_picture(data.parent / "images", "b", 50)
    assert detected() == 3
    write_picture(data.parent / "images", "d", 50)
    assert detected() == 4


def test_cached_detections_follow_the_order_of_the_pictures(
    data: Path, config: Config, cache: Cache, detector: PixelDetector
) -> None:
    write_yaml(data.parent, val="val.txt")
    for order in ("abc", "cab", "bca", "abc"):
        write(data.parent / "val.txt", [f"images/{name}.png" for name in order])
        pictures = detect_yolo(data, "val", Models(config), cache)
        assert [box[0][0] for box in boxes(pictures)] == [{"a": 10, "b": 40, "c": 70}[name] for name in order]
        assert map50(pictures, config) == pytest.approx(1)


def test_pictures_with_the_same_name_in_two_folders_are_distinct(
    tmp_path: Path, config: Config, cache: Cache, detector: PixelDetector
) -> None:
    for folder, place in (("images/left", 10), ("images/right", 70)):
        write_picture(tmp_path / "set" / folder, "a", place)
    for order in (["left", "right"], ["right", "left"]):
        data = write_yaml(tmp_path / "set", val=[f"images/{folder}" for folder in order])
        pictures = detect_yolo(data, "val", Models(config), cache)
        assert [box[0][0] for box in boxes(pictures)] == [{"left": 10, "right": 70}[folder] for folder in order]
        assert map50(pictures, config) == pytest.approx(1)


@pytest.mark.parametrize("how", ["absolute", "upwards"])
def test_pictures_may_be_outside_the_folder_of_the_yaml(
    data: Path, tmp_path: Path, config: Config, cache: Cache, detector: PixelDetector, how: str
) -> None:
    path = str(data.parent) if how == "absolute" else "../set"
    other = write_yaml(tmp_path / "yamls", path=path)
    pictures = detect_yolo(other, "val", Models(config), cache)
    assert len(pictures.detections) == 3
    assert map50(pictures, config) == pytest.approx(1)


def test_a_picture_without_a_label_file_has_no_objects(
    data: Path, config: Config, cache: Cache, detector: PixelDetector
) -> None:
    write_picture(data.parent / "images", "d", 90, label=None)
    pictures = detect_yolo(data, "val", Models(config), cache)
    assert [len(image.boxes) for image in pictures.truth] == [1, 1, 1, 0]
    assert map50(pictures, config) < 1  # the false alarm in picture d has the highest score


# --- classes ----------------------------------------------------------------------------------------------------------


def test_classes_are_matched_by_name(tmp_path: Path, config: Config, cache: Cache, detector: PixelDetector) -> None:
    images = tmp_path / "set" / "images"
    write_picture(images, "a", 10, label=1, detected=0)
    write_picture(images, "b", 40, label=0, detected=16)
    data = write_yaml(tmp_path / "set", names={0: "Dog", 1: "Pedestrian", 2: "car"})
    pictures = detect_yolo(data, "val", Models(config), cache)
    assert [image.classes.tolist() for image in pictures.truth] == [[1], [0]]
    assert [detected.classes.tolist() for detected in pictures.detections] == [[1], [0]]
    assert map50(pictures, config) == pytest.approx(1)


def test_classes_that_are_not_configured_are_not_scored(
    tmp_path: Path, config: Config, cache: Cache, detector: PixelDetector
) -> None:
    images = tmp_path / "set" / "images"
    write_picture(images, "a", 10, label=1, detected=0)
    write_picture(images, "b", 40, label=0, detected=16)
    data = write_yaml(tmp_path / "set", names=["car", "person"])
    pictures = detect_yolo(data, "val", Models(config), cache)
    assert [len(image.boxes) for image in pictures.truth] == [1, 0]
    assert [len(detected) for detected in pictures.detections] == [1, 0]
    assert map50(pictures, config) == pytest.approx(1)


def test_two_names_of_people_are_one_class(
    tmp_path: Path, config: Config, cache: Cache, detector: PixelDetector
) -> None:
    images = tmp_path / "set" / "images"
    write_picture(images, "a", 10, label=0)
    write_picture(images, "b", 40, label=1)
    data = write_yaml(tmp_path / "set", names=["pedestrian", "person"])
    pictures = detect_yolo(data, "val", Models(config), cache)
    assert [len(image.boxes) for image in pictures.truth] == [1, 1]
    assert map50(pictures, config) == pytest.approx(1)


def test_both_person_classes_of_a_detector_are_scored(
    data: Path, config: Config, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = PixelDetector({3: "pedestrian", 7: "person"})
    monkeypatch.setattr("motserve.lab.experiments.models.build_detector", lambda *_: detector)
    write_picture(data.parent / "images", "a", 10, detected=3)
    write_picture(data.parent / "images", "b", 40, detected=7)
    write_picture(data.parent / "images", "c", 70, detected=3)
    assert map50(detect_yolo(data, "val", Models(config), cache), config) == pytest.approx(1)


def test_no_common_class_is_an_error_that_names_both_sides(
    tmp_path: Path, config: Config, cache: Cache, detector: PixelDetector
) -> None:
    write_picture(tmp_path / "set" / "images", "a", 10)
    data = write_yaml(tmp_path / "set", names=["car", "bus"])
    with pytest.raises(InvalidData, match=r"car, bus.*person, dog; set detector\.classes"):
        detect_yolo(data, "val", Models(config), cache)


# --- broken data ------------------------------------------------------------------------------------------------------


def test_a_picture_that_cannot_be_decoded_is_named_and_nothing_is_cached(
    data: Path, config: Config, cache: Cache, detector: PixelDetector, tmp_path: Path
) -> None:
    broken = data.parent / "images" / "b.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:41] + b"\x00" * 40 + whole[-20:])
    with pytest.raises(InvalidData, match=r"b\.png"):
        detect_yolo(data, "val", Models(config), cache)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_file_that_is_not_a_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=r"a\.png cannot be decoded"):
        read_picture(path)


def test_a_missing_data_set_or_split_is_an_error(
    data: Path, config: Config, cache: Cache, detector: PixelDetector, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        detect_yolo(tmp_path / "nowhere.yaml", "val", Models(config), cache)
    with pytest.raises(InvalidData, match="test"):
        detect_yolo(data, "test", Models(config), cache)


# --- a sequence -------------------------------------------------------------------------------------------------------


def test_the_frames_of_a_sequence_are_labelled_pictures(tmp_path: Path, config: Config) -> None:
    (sequence,) = load_written(write_sequence(tmp_path), load_config([OFF]))
    pictures = pictures_of(sequence)
    assert (pictures.name, len(pictures.truth), len(pictures.detections)) == ("walk", 30, 30)
    assert sum(len(image.boxes) for image in pictures.truth) == len(sequence.table)
    assert pictures.sample(5) == []
    assert pictures.data == sequence.describe()
    assert 0.2 < map50(pictures, config) < 1


def test_only_people_of_a_sequence_are_scored(tmp_path: Path) -> None:
    (sequence,) = load_written(write_sequence(tmp_path, frames=2), load_config([OFF]))
    detected = Detections(np.ones((4, 4), np.float32), np.ones(4, np.float32), np.array([5, 0, 7, 2]))
    sequence.detected.detections[:] = [detected, Detections.empty()]
    names = {0: "Person", 2: "dog", 5: "pedestrian", 7: "person on a horse"}
    detected = type(sequence.detected)("walk", sequence.detected.detections, np.arange(2.0), 1, names)
    pictures = pictures_of(type(sequence)(sequence.truth, sequence.table, sequence.rules, detected, None))
    assert [detected.classes.tolist() for detected in pictures.detections] == [[next(iter(PERSON))] * 2, []]


def test_a_sample_has_the_frames_of_its_part(tmp_path: Path, config: Config) -> None:
    folder = tmp_path / "grey"
    for number in range(1, 6):
        (folder / "img1").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "img1" / f"{number:06}.png"), np.full((32, 48, 3), number, np.uint8))
    write(folder / "gt" / "gt.txt", [f"{k},1,1,1,30,30,1,1,1" for k in range(1, 6)])
    det = write(tmp_path / "grey.txt", [f"{k},-1,1,1,30,30,0.9" for k in range(1, 6)])
    (whole,) = load_sequences(find_truth(folder), Models(config), Cache(tmp_path), detections=det)
    assert [int(image[0, 0, 0]) for image in pictures_of(whole).sample(3)] == [1, 2, 3]
    assert [int(image[0, 0, 0]) for image in pictures_of(whole).sample(50)] == [1, 2, 3, 4, 5]
    assert [int(image[0, 0, 0]) for image in pictures_of(whole.clip(3, 5)).sample(3)] == [4, 5]


def test_parts_are_scored_one_by_one_and_together(
    data: Path, tmp_path: Path, config: Config, cache: Cache, detector: PixelDetector
) -> None:
    good = detect_yolo(data, "val", Models(config), cache)
    blind = LabelledPictures("blind", good.truth, [Detections.empty()] * 3, good.sample)
    scores = score_pictures([good, blind], config)
    assert list(scores) == ["val", "blind", COMBINED]
    assert [round(one.map50, 2) for one in scores.values()] == [1, 0, 0.5]
    assert [one.images for one in scores.values()] == [3, 3, 6]
    assert list(scores[COMBINED].recalls) == list(config.evaluation.false_positives_per_image)


def test_average_precision_has_its_own_confidence_limit(config: Config) -> None:
    scoring = for_scoring(change_config(config, {"evaluation": {"detection_confidence": 0.03}}))
    assert scoring.detector.confidence == 0.03
    assert scoring.detector.weights == config.detector.weights

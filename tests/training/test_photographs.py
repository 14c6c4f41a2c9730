"""Photographs labelled by several passes of a teacher, and the agreement of a detector with it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import motserve.models.bundled
from motserve.errors import NotFound
from motserve.lab.scenes import SceneConfig, render
from motserve.types import Detections, Image
from training.bundled.agreement import Agreement, match_boxes, measure_agreement
from training.bundled.backdrops import Pictures
from training.bundled.config import (
    MaterialConfig,
    PhotographLabelConfig,
    PhotographSource,
    SceneSource,
    SetConfig,
)
from training.bundled.detector_set import write_set
from training.bundled.footage import Labels
from training.bundled.material import Material
from training.bundled.photographs import cut_people, fuse_detections, label_people, prepare_photographs
from training.rendered.config import PictureConfig

TEACHER = Path(motserve.models.bundled.__file__).parent / "detector.safetensors"
SOURCE = PhotographSource(name="town", path=Path("town"))


def found(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.zeros(len(table), np.int64))


@pytest.fixture(scope="module")
def settings() -> MaterialConfig:
    return MaterialConfig(
        scenes=(SceneSource(name="unused", path=Path("unused")),),
        photographs=(SOURCE,),
        photograph_labels=PhotographLabelConfig(image_sizes=(320,)),
        teacher=TEACHER,
        detector=SetConfig(
            train_pictures=8,
            validation_pictures=2,
            windows=1,
            photographs=1,
            pictures=PictureConfig(longer_side=128),
        ),
    )


@pytest.fixture(scope="module")
def photographs(settings: MaterialConfig, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Rendered photographs, one empty and one that is no picture."""
    data = tmp_path_factory.mktemp("data")
    (data / "town").mkdir()
    for people in (0, 4):
        scene = SceneConfig(seed=5, width=480, height=272, duration_s=6, rate_hz=1, people=people, shake=0)
        frame = list(render(scene))[-1].frame.image
        cv2.imwrite(str(data / "town" / f"{people}.png"), frame)
    (data / "town" / "broken.jpg").write_text("no picture")
    return prepare_photographs(SOURCE, data, settings, data / "prepared")


def test_passes_are_fused_by_confidence() -> None:
    passes = [found((0, 0, 10, 20, 0.9), (50, 0, 60, 20, 0.4)), found((2, 0, 12, 20, 0.3)), found(), found()]
    merged = fuse_detections(passes, 0.5, 0.05)
    np.testing.assert_allclose(merged.scores, [1.2 / 4, 0.4 / 4], rtol=1e-6)
    np.testing.assert_allclose(merged.boxes, np.array([[0.5, 0, 10.5, 20], [50, 0, 60, 20]]), rtol=1e-6)
    assert len(fuse_detections(passes, 0.5, 0.2)) == 1
    assert len(fuse_detections([found(), found()], 0.5, 0.1)) == 0


def test_unsure_detections_are_neither_people_nor_background() -> None:
    labels = label_people(found((0, 0, 10, 20, 0.8), (50, 0, 60, 20, 0.2)), PhotographLabelConfig(sure_confidence=0.4))
    assert labels.boxes.tolist() == [[0, 0, 10, 20]]
    assert labels.others.tolist() == [[50, 0, 60, 20]]


def test_photographs_are_labelled_once(photographs: Material, settings: MaterialConfig) -> None:
    assert [len(one.boxes) > 0 for one in photographs.labels] == [False, True]
    before = photographs.frames[0].stat().st_mtime_ns
    again = prepare_photographs(SOURCE, photographs.folder.parent, settings, photographs.folder)
    assert again.frames[0].stat().st_mtime_ns == before
    other = PhotographSource(name="none", path=Path("none"))
    with pytest.raises(NotFound, match=r"there is no folder of photographs .*remove it from `photographs`"):
        prepare_photographs(other, photographs.folder.parent, settings, photographs.folder.parent / "other")


def test_people_are_cut_out_if_the_teacher_recognises_them(settings: MaterialConfig) -> None:
    picture = np.full((200, 300, 3), 90, np.uint8)
    picture[20:180, 50:110] = (0, 0, 200)  # upright
    picture[20:180, 120:280] = (0, 200, 0)  # as wide as high
    picture[20:50, 10:20] = (200, 0, 0)  # too small
    boxes = np.array([[50, 20, 110, 180], [120, 20, 280, 180], [10, 20, 20, 50], [0, 20, 50, 180]], np.float32)
    labels = Labels(np.arange(4), boxes, np.ones(4, np.float32), np.empty((0, 4), np.float32))
    shown: list[Image] = []

    def detect(image: Image) -> Detections:
        shown.append(image)
        return found((0, 0, 9, 9, 0.9))

    ((row, cut),) = cut_people(picture, labels, detect, settings)
    assert row == 0
    assert cut.shape[0] == settings.cuts.height
    assert cut.shape[2] == 4
    assert 0.1 < (cut[..., 3] > 127).mean() < 1
    assert (shown[0][:9] == 127).all()
    assert not list(cut_people(picture, labels, lambda _: found(), settings))


def test_windows_of_photographs_are_training_pictures(
    photographs: Material, settings: MaterialConfig, tmp_path: Path
) -> None:
    write_set(settings, {}, Pictures((), ()), tmp_path, {"town": photographs})
    labels = [file.read_text() for file in sorted((tmp_path / "labels" / "train").iterdir())]
    assert len(labels) == 8
    assert sum(map(bool, labels)) >= 4


def test_agreement_counts_each_person_once() -> None:
    reference = found((0, 0, 10, 20, 0.9), (50, 0, 60, 20, 0.9))
    double = found((0, 0, 10, 20, 0.8), (1, 0, 11, 20, 0.7))
    blank: Image = np.zeros((9, 9, 3), np.uint8)
    agreements = measure_agreement([blank, blank], lambda _: reference, [lambda _: double, lambda _: found()])
    assert agreements == [Agreement(4, 2, 4, 2), Agreement(4, 0, 0, 0)]
    assert (agreements[0].recall, agreements[0].agreeing_share) == (0.5, 0.5)
    assert np.isnan(agreements[1].agreeing_share)
    assert match_boxes(reference.boxes, found().boxes) == 0

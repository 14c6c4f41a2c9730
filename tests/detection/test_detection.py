from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import read_picture

from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection import build_detector
from motserve.detection.common import choose_classes
from motserve.detection.yolo import YoloDetector
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.weights import Weights
from motserve.types import Detections


def build(path: Path, **settings: object) -> DetectorBase:
    config = DetectorConfig.model_validate({"device": "cpu", "image_size": 96, **settings})
    return build_detector(config, Weights(path.name, path, "", ""))


def picture(height: int, width: int, seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height))


def assert_same(detections: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(detections.classes, expected.classes)
    np.testing.assert_allclose(detections.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(detections.boxes, expected.boxes, atol=0.05)


@pytest.fixture(scope="module")
def detector(untrained_detector: Path) -> DetectorBase:
    return build(untrained_detector, max_detections=20)


def test_detections_are_well_formed_and_best_first(detector: DetectorBase) -> None:
    (detections,) = detector.detect([picture(72, 96, 0)])
    assert 0 < len(detections) <= 20
    assert detections.boxes.dtype == detections.scores.dtype == np.float32
    assert detections.classes.dtype == np.int64
    assert all(a >= b for a, b in pairwise(detections.scores))
    assert (detections.scores >= 0.1).all()
    assert (detections.scores <= 1).all()
    assert (detections.boxes[:, :2] < detections.boxes[:, 2:]).all()
    assert (detections.boxes >= 0).all()
    assert (detections.boxes <= [96, 72, 96, 72]).all()
    assert set(detections.classes.tolist()) <= set(detector.class_names) == {0}


def test_results_are_in_order_and_independent_of_the_batch(detector: DetectorBase) -> None:
    shapes = [(72, 96), (96, 72), (72, 96), (48, 96), (96, 72), (72, 96)]
    pictures = [picture(height, width, seed) for seed, (height, width) in enumerate(shapes)]
    together = detector.detect(pictures)
    assert len({detections.scores.tobytes() for detections in together}) == len(pictures)
    for image, detections in zip(pictures, together, strict=True):
        assert_same(detections, detector.detect([image])[0])
    for detections, expected in zip(detector.detect(pictures[::-1])[::-1], together, strict=True):
        assert_same(detections, expected)


def test_an_empty_batch_has_no_result(detector: DetectorBase) -> None:
    assert detector.detect([]) == []


def test_pictures_from_shared_memory_are_not_modified(detector: DetectorBase) -> None:
    image = picture(72, 96, 0)
    before = image.copy()
    image.flags.writeable = False
    assert_same(detector.detect([image])[0], detector.detect([before])[0])
    np.testing.assert_array_equal(image, before)


def test_a_prediction_does_not_change_the_number_of_threads(untrained_detector: Path) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)  # Ultralytics would set one less than there are cores, 8 at most
    try:
        detector = build(untrained_detector)
        for _ in range(2):
            detector.detect([picture(72, 96, 0)])
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_picture_without_confident_detections_has_none(untrained_detector: Path) -> None:
    detections = build(untrained_detector, confidence=1.0).detect([picture(72, 96, 0), picture(72, 96, 1)])
    assert [len(item) for item in detections] == [0, 0]
    assert detections[0].boxes.shape == (0, 4)


def test_boxes_without_an_area_after_clipping_are_dropped(
    detector: DetectorBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from ultralytics.engine.results import Results

    rows = [[5, 5, 20, 40, 0.9, 0], [96, 5, 96, 40, 0.8, 0], [5, 0, 20, 0, 0.7, 0], [0, 0, 1, 1, 0.6, 0]]
    rows += [[-9, 5, 0.5, 40, 0.95, 0], [90, -3, 99, 80, 0.5, 0]]  # RT-DETR does not clip
    image = picture(72, 96, 0)
    result = Results(image, path="", names={0: "person"}, boxes=torch.tensor(rows))

    def predict(images: list[np.ndarray], **options: object) -> list[Results]:
        return [result]

    assert isinstance(detector, YoloDetector)
    monkeypatch.setattr(detector._model, "predict", predict)
    (detections,) = detector.detect([image])
    np.testing.assert_allclose(detections.scores, [0.9, 0.6, 0.5])
    np.testing.assert_array_equal(detections.boxes, [[5, 5, 20, 40], [0, 0, 1, 1], [90, 0, 96, 72]])


def test_classes_are_selected_by_name(untrained_detector: Path) -> None:
    assert build(untrained_detector, classes=["all"]).class_names == {0: "person"}
    with pytest.raises(InvalidConfig, match=r"detector\.classes: 'horse' is no class of .*; it has person"):
        build(untrained_detector, classes=["person", "horse", "dog"])
    with pytest.raises(InvalidConfig, match=r"'0' is no class of .*; it has person"):
        build(untrained_detector, classes=0)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (0, "'0' is no class of a.pt; classes are given by name, and number 0 of its 20 is 'person'"),
        ("Class 3", "'Class 3' is no class of a.pt; similar ones among its 20 classes: class 3, "),
        (
            "unicorn",
            "'unicorn' is no class of a.pt; some of its 20 classes: person, class 1, class 2, class 3, class 4",
        ),
        (99, "'99' is no class of a.pt; some of its 20 classes: "),
        ("9" * 5000, "; some of its 20 classes: "),
    ],
)
def test_the_message_of_an_unknown_class_suggests_similar_ones(wrong: object, hint: str) -> None:
    names = {0: "person", **{number: f"class {number}" for number in range(1, 20)}}
    wanted = DetectorConfig.model_validate({"classes": wrong}).classes
    with pytest.raises(InvalidConfig, match=re.escape(hint)) as caught:
        choose_classes(names, wanted, Weights("a.pt", Path("a.pt"), "", ""))
    assert len(str(caught.value)) < 300


def test_parameters_are_counted_before_layers_are_fused(detector: DetectorBase) -> None:
    before = detector.parameters
    detector.detect([picture(72, 96, 0)])
    assert detector.parameters == before == 3_011_043


@pytest.mark.parametrize("device", ["cuda:99", "mps"])
def test_a_missing_device_is_an_error(device: str, untrained_detector: Path) -> None:
    import torch

    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(InvalidConfig, match=device):
        build(untrained_detector, device=device)


@pytest.mark.parametrize("name", ["a.pt", "a.onnx", "a.safetensors", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"this is no model"])
def test_broken_files_raise_weights_unavailable(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsUnavailable, match=name):
        build(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from ultralytics.nn import tasks

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    monkeypatch.setattr(tasks, "SAFE_LOAD", False)  # as in a process that imported Ultralytics by itself
    with pytest.raises(WeightsUnavailable):
        build(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()


def test_a_state_dict_of_something_else_is_refused(tmp_path: Path, untrained_embedder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(InvalidConfig, match=r"detector\.architecture is needed"):
        build(untrained_embedder)
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, {"architecture": "yolov8n", "names": '{"0": "person"}'})
    with pytest.raises(WeightsUnavailable, match=r"other\.safetensors"):
        build(path)


@pytest.fixture(scope="module")
def street(data_dir: Path) -> list[np.ndarray]:
    """Three frames of TUD-Campus with about six people."""
    files = sorted((data_dir / "mot" / "TUD-Campus" / "img1").glob("*.jpg"))[:3]
    return [read_picture(file) for file in files]


def test_a_real_model_finds_the_people_of_a_street(data_dir: Path, street: list[np.ndarray]) -> None:
    detector = build(data_dir / "models" / "yolov8n.pt", image_size=640, confidence=0.5)
    assert detector.class_names == {0: "person"}
    truth = np.loadtxt(data_dir / "mot" / "TUD-Campus" / "gt" / "gt.txt", delimiter=",")
    for number, detections in enumerate(detector.detect(street), 1):
        people = truth[truth[:, 0] == number, 2:6]
        centres = (detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2
        inside = [((centres > p[:2]) & (centres < p[:2] + p[2:])).all(axis=1).any() for p in people]
        assert len(detections) >= 4
        assert np.mean(inside) >= 0.6


def test_all_classes_of_a_real_model(data_dir: Path) -> None:
    path = data_dir / "models" / "yolov8n.pt"
    assert len(build(path, classes=["all"]).class_names) == 80
    assert build(path, classes=["dog", "person"]).class_names == {0: "person", 16: "dog"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Converting a tensor to a Python boolean")
def test_an_exported_model_of_batch_one_finds_the_same_people(
    data_dir: Path, street: list[np.ndarray], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    from ultralytics.models import YOLO

    copy = tmp_path / "yolov8n.pt"
    copy.write_bytes((data_dir / "models" / "yolov8n.pt").read_bytes())
    exported = Path(YOLO(copy).export(format="onnx", imgsz=(480, 640), verbose=False))
    settings = {"image_size": 640, "confidence": 0.4}
    reference, detector = build(copy, **settings).detect(street), build(exported, **settings)
    assert detector.parameters is None
    for _ in range(2):
        for detections, expected in zip(detector.detect(street), reference, strict=True):
            assert len(detections) == len(expected)
            np.testing.assert_allclose(detections.scores, expected.scores, atol=0.02)
            np.testing.assert_allclose(detections.boxes, expected.boxes, atol=2)


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
def test_a_gpu_finds_the_same_people(data_dir: Path, street: list[np.ndarray], half: bool) -> None:
    path = data_dir / "models" / "yolov8n.pt"
    settings = {"image_size": 640, "confidence": 0.4}
    reference = build(path, **settings).detect(street)
    for detections, expected in zip(
        build(path, **settings, device="cuda", half=half).detect(street), reference, strict=True
    ):
        assert len(detections) == len(expected)
        np.testing.assert_allclose(detections.scores, expected.scores, atol=0.02)
        np.testing.assert_allclose(detections.boxes, expected.boxes, atol=2)

"""YOLO networks on OpenVINO: the same detections as on PyTorch."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pictures import read_picture

import motserve.models.bundled
from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection import build_detector
from motserve.detection.backend import expected_backend
from motserve.errors import InvalidConfig, InvalidData
from motserve.lab.scenes import SceneConfig, render
from motserve.models import backend as models_backend
from motserve.models import openvino_conversion
from motserve.models.checksums import checksum
from motserve.models.weights import Weights
from motserve.types import Detections, Image

BUNDLED = Path(motserve.models.bundled.__file__).parent / "detector.safetensors"
SIDE = 320


def weights(path: Path) -> Weights:
    return Weights(path.name, path, checksum(path), "")


def build(path: Path, folder: Path | None = None, **settings: Any) -> DetectorBase:
    config = DetectorConfig.model_validate({"device": "cpu", "image_size": SIDE, **settings})
    return build_detector(config, weights(path), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def detector(folder: Path) -> DetectorBase:
    """The bundled detector on OpenVINO."""
    return build(BUNDLED, folder)


@pytest.fixture(scope="module")
def reference() -> DetectorBase:
    return build(BUNDLED, backend="torch")


def rendered(width: int, height: int) -> list[Image]:
    scene = SceneConfig(seed=90_001, rate_hz=1, duration_s=5, width=width, height=height)
    return [frame.frame.image for frame in render(scene)]


def compare(detections: Sequence[Detections], expected: Sequence[Detections]) -> int:
    """Check that detections agree; return their number."""
    for one, other in zip(detections, expected, strict=True):
        np.testing.assert_array_equal(one.classes, other.classes)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.02)
    return sum(map(len, expected))


def test_rendered_people_are_detected_as_by_torch(detector: DetectorBase, reference: DetectorBase) -> None:
    assert (detector.backend, reference.backend) == ("openvino", "torch")
    assert detector.parameters == reference.parameters
    assert detector.class_names == reference.class_names
    wide, high = rendered(320, 180), rendered(200, 320)
    assert compare(detector.detect(wide), reference.detect(wide)) > 10
    assert compare(detector.detect([*high, *wide]), reference.detect([*high, *wide])) > 20
    assert detector.detect([]) == []


@pytest.mark.parametrize("settings", [{"confidence": 0.01}, {"nms_iou": 0.2, "max_detections": 5}])
def test_pictures_of_any_size_are_padded_as_by_ultralytics(
    settings: dict[str, Any], folder: Path, detector: DetectorBase
) -> None:
    scene = rendered(480, 270)[-1]
    sizes = [(33, 500), (500, 33), (319, 241), (641, 359), (97, 101), (1280, 721)]
    pictures = [np.asarray(cv2.resize(scene, size), np.uint8) for size in sizes]
    expected = build(BUNDLED, backend="torch", **settings).detect(pictures)
    assert compare(build(BUNDLED, folder, **settings).detect(pictures), expected) > 3


def test_a_stored_detector_needs_neither_torch_nor_ultralytics(
    detector: DetectorBase, folder: Path, tmp_path: Path
) -> None:
    picture = rendered(320, 180)[-1]
    np.save(tmp_path / "picture.npy", picture)
    script = f"""
import sys
sys.modules["torch"] = sys.modules["ultralytics"] = None
from pathlib import Path
import cv2
import numpy as np
from motserve.config import DetectorConfig
from motserve.detection import build_detector
from motserve.models.weights import Weights
weights = Weights("a", Path({str(BUNDLED)!r}), {checksum(BUNDLED)!r}, "")
config = DetectorConfig.model_validate({{"device": "cpu", "image_size": {SIDE}}})
detector = build_detector(config, weights, Path({str(folder)!r}))
assert detector.class_names == {{0: "person"}} and detector.parameters == {detector.parameters}
(found,) = detector.detect([np.load({str(tmp_path / "picture.npy")!r})])
np.savez({str(tmp_path / "found.npz")!r}, boxes=found.boxes, scores=found.scores, classes=found.classes)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    with np.load(tmp_path / "found.npz") as found:
        assert compare([Detections(**found)], detector.detect([picture])) > 0


def test_real_people_are_detected_as_by_torch(detector: DetectorBase, reference: DetectorBase, data_dir: Path) -> None:
    street = [read_picture(path) for path in sorted((data_dir / "mot" / "TUD-Campus" / "img1").glob("*.jpg"))[::12]]
    assert len(street) > 4
    assert compare(detector.detect(street), reference.detect(street)) > 10


def test_a_detector_of_ultralytics_detects_as_by_torch(data_dir: Path, folder: Path) -> None:
    path = data_dir / "models" / "yolov8n.pt"
    street = [read_picture(path) for path in sorted((data_dir / "mot" / "TUD-Campus" / "img1").glob("*.jpg"))[:3]]
    settings: dict[str, Any] = {"classes": ["all"], "confidence": 0.2}
    detector = build(path, folder, **settings)
    assert detector.backend == "openvino"
    assert compare(detector.detect(street), build(path, backend="torch", **settings).detect(street)) > 10


def test_a_converted_detector_is_loaded_for_other_settings(
    detector: DetectorBase, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_conversion, "convert", None)
    settings: dict[str, Any] = {"image_size": 256, "confidence": 0.3, "max_detections": 3}
    picture = rendered(320, 180)[-1]
    other = build(BUNDLED, folder, backend="openvino", **settings)
    assert compare(other.detect([picture]), build(BUNDLED, backend="torch", **settings).detect([picture])) > 0


def test_a_detector_that_cannot_be_converted_runs_on_torch(
    reference: DetectorBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino_conversion, "convert", None)
    config, used = DetectorConfig(device="cpu"), weights(BUNDLED)
    assert expected_backend(config, used, tmp_path) == "openvino"
    with caplog.at_level(logging.WARNING):
        detector = build(BUNDLED, tmp_path)
    assert detector.backend == "torch"
    assert caplog.text.count("runs on PyTorch: OpenVINO cannot run it") == 1
    assert expected_backend(config, used, tmp_path) == "torch"
    picture = rendered(320, 180)[-1]
    assert compare(detector.detect([picture]), reference.detect([picture])) > 0
    with pytest.raises(InvalidConfig, match=r"detector\.backend openvino: OpenVINO cannot run detector\.safetensors"):
        build(BUNDLED, tmp_path, backend="openvino")


def test_a_network_without_suppression_behind_it_is_not_converted() -> None:
    from ultralytics.nn.tasks import DetectionModel

    from motserve.detection.yolo_conversion import convertible_yolo

    network: Any = DetectionModel("yolov10n.yaml", nc=1, verbose=False)
    convertible = convertible_yolo(DetectorConfig(), weights(BUNDLED), network)
    with pytest.raises(InvalidData, match="its head v10Detect gives something else"):
        convertible.build()


def test_sizes_fit_a_network_of_another_stride() -> None:
    from ultralytics.nn.tasks import DetectionModel

    from motserve.detection.yolo_conversion import convertible_yolo

    network: Any = DetectionModel("yolov8n-p6.yaml", nc=1, verbose=False)
    convertible = convertible_yolo(DetectorConfig(image_size=480), weights(BUNDLED), network)
    assert convertible.facts["stride"] == 64
    assert convertible.samples == ((1, 320, 512), (2, 128, 192))


@pytest.mark.parametrize("broken", [np.nan, 0.6])
def test_a_difference_is_noticed(broken: float) -> None:

    from motserve.detection.yolo_conversion import _difference as difference

    expected = np.zeros((1, 5, 8), np.float32)
    boxes, scores = expected.copy(), expected.copy()
    boxes[0, 2, 3] = broken
    scores[0, 4, 3] = broken
    assert difference(expected, expected) == ""
    assert difference(expected, boxes).startswith("boxes differ by")
    assert "scores by" in difference(expected, scores)


def test_a_region_is_detected_as_its_picture_alone(detector: DetectorBase, folder: Path) -> None:
    picture = rendered(480, 270)[-1]
    (found,) = build(BUNDLED, folder, region=[0.5, 0, 1, 1]).detect([picture])
    (expected,) = detector.detect([np.ascontiguousarray(picture[:, 240:])])
    shifted = Detections(expected.boxes + np.array([240, 0, 240, 0], np.float32), expected.scores, expected.classes)
    assert compare([found], [shifted]) > 0


def test_other_families_refuse_the_backend(tmp_path: Path) -> None:
    path = tmp_path / "ssdlite320_mobilenet_v3_large.pth"
    path.touch()
    with pytest.raises(InvalidConfig, match=r"is a detector of torchvision, which runs on PyTorch only; set"):
        build(path, backend="openvino")


@pytest.mark.parametrize(
    ("name", "settings", "driver", "expected"),
    [
        ("a.pt", {}, False, "openvino"),
        ("a.pt", {}, True, "torch"),
        ("a.pt", {"device": "cpu"}, True, "openvino"),
        ("a.pt", {"device": "cuda:0"}, False, "torch"),
        ("a.pt", {"backend": "torch"}, False, "torch"),
        ("a.pt", {"backend": "openvino"}, False, "openvino"),
        ("a.onnx", {}, False, ""),
        ("ssdlite320_mobilenet_v3_large.pth", {}, False, "torch"),
    ],
)
def test_the_backend_is_known_before_the_detector_is_loaded(
    name: str, settings: dict[str, str], driver: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_backend, "_DRIVERS", (tmp_path if driver else tmp_path / "none",))
    config = DetectorConfig.model_validate(settings)
    used = Weights(name, Path(name), "5e88", "")
    assert expected_backend(config, used, tmp_path) == expected
    if expected == "openvino" and config.backend == "auto":
        assert expected_backend(config, used, None) == "torch"

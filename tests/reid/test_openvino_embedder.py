"""Embedders on OpenVINO: the same embeddings as on PyTorch."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import read_picture

import motserve.models.bundled
from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig
from motserve.lab.scenes import SceneConfig, render
from motserve.models import openvino_conversion
from motserve.models.checksums import checksum
from motserve.models.weights import Weights
from motserve.reid import build_embedder
from motserve.reid.crops import cut_crops
from motserve.reid.embedder import CropEmbedder

BUNDLED = Path(motserve.models.bundled.__file__).parent / "embedder.safetensors"


def build(path: Path, folder: Path | None = None, **settings: Any) -> CropEmbedder:
    config = ReIDConfig.model_validate({"device": "cpu", "batch_size": 4, **settings})
    return build_embedder(config, Weights(path.name, path, checksum(path), ""), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> CropEmbedder:
    """The bundled embedder on OpenVINO."""
    return build(BUNDLED, folder)


@pytest.fixture(scope="module")
def reference() -> CropEmbedder:
    return build(BUNDLED, backend="torch")


def assert_same(embeddings: np.ndarray, expected: np.ndarray) -> None:
    assert embeddings.shape == expected.shape
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert (np.sum(embeddings * expected, axis=1) >= 0.999).all()


def rendered(embedder: CropEmbedder) -> np.ndarray:
    (frame, *_) = render(SceneConfig(seed=90_001, rate_hz=1, duration_s=2, width=480, height=272))
    return cut_crops(frame.frame.image, frame.truth.boxes, *embedder.crop_size)


def test_rendered_people_have_the_embeddings_of_torch(embedder: CropEmbedder, reference: CropEmbedder) -> None:
    assert (embedder.backend, reference.backend, embedder.device) == ("openvino", "torch", "cpu")
    for name in ("dimension", "parameters", "crop_size"):
        assert getattr(embedder, name) == getattr(reference, name)
    crops = rendered(embedder)
    assert len(crops) > 1
    crops.flags.writeable = False
    for count in (0, 1, len(crops)):
        assert_same(embedder.embed(crops[:count]), reference.embed(crops[:count]))
    many = np.concatenate([crops] * 5)  # more than a batch, and the last one is smaller
    assert len(many) > 4
    assert_same(embedder.embed(many), reference.embed(many))


def test_a_stored_embedder_needs_no_torch(embedder: CropEmbedder, folder: Path, tmp_path: Path) -> None:
    crops = rendered(embedder)
    np.save(tmp_path / "crops.npy", crops)
    script = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
import numpy as np
from motserve.config import ReIDConfig
from motserve.models.weights import Weights
from motserve.reid import build_embedder
weights = Weights("a", Path({str(BUNDLED)!r}), {checksum(BUNDLED)!r}, "")
config = ReIDConfig.model_validate({{"device": "cpu", "batch_size": 4}})
embedder = build_embedder(config, weights, Path({str(folder)!r}))
assert embedder.dimension == {embedder.dimension} and embedder.parameters == {embedder.parameters}
np.save({str(tmp_path / "embeddings.npy")!r}, embedder.embed(np.load({str(tmp_path / "crops.npy")!r})))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert_same(np.load(tmp_path / "embeddings.npy"), embedder.embed(crops))


def test_real_people_have_the_embeddings_of_torch(
    embedder: CropEmbedder, reference: CropEmbedder, data_dir: Path
) -> None:
    picture = read_picture(data_dir / "mot" / "TUD-Campus" / "img1" / "000001.jpg")
    truth = np.loadtxt(data_dir / "mot" / "TUD-Campus" / "gt" / "gt.txt", delimiter=",", dtype=np.float32)
    boxes = truth[truth[:, 0] == 1, 2:6]
    boxes[:, 2:] += boxes[:, :2]
    assert len(boxes) > 3
    assert_same(embedder.embed_boxes(picture, boxes), reference.embed_boxes(picture, boxes))


def test_each_size_and_feature_is_a_network_of_its_own(untrained_embedder: Path, tmp_path: Path) -> None:
    small: dict[str, Any] = {"crop_height": 64, "crop_width": 32}
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), np.uint8)
    results = []
    for settings in (small, {**small, "feature": "before_norm"}):
        embedder = build(untrained_embedder, tmp_path, **settings)
        assert embedder.backend == "openvino"
        results.append(embedder.embed(crops))
        assert_same(results[-1], build(untrained_embedder, backend="torch", **settings).embed(crops))
    assert len(list((tmp_path / "openvino").iterdir())) == 2


def test_an_embedder_that_cannot_be_converted_runs_on_torch(
    untrained_embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino_conversion, "convert", None)
    with caplog.at_level(logging.WARNING):
        assert build(untrained_embedder, tmp_path).backend == "torch"
    assert "runs on PyTorch: OpenVINO cannot run it" in caplog.text
    with pytest.raises(InvalidConfig, match=r"reid\.backend openvino: OpenVINO cannot run untrained\.safetensors"):
        build(untrained_embedder, tmp_path, backend="openvino")

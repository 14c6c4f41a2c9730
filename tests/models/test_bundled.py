import json
from pathlib import Path

import numpy as np
import pytest
from real_data import NO_DATA, real_data
from safetensors import safe_open

import motserve.models.bundled
from motserve.config import DetectorConfig, ReIDConfig
from motserve.detection.yolo import YoloDetector
from motserve.lab.evaluation.reid_data import read_image
from motserve.lab.scenes import RenderedFrame, SceneConfig, render
from motserve.models.weights import Weights
from motserve.reid import build_embedder
from motserve.reid.crops import cut_crops

FOLDER = Path(motserve.models.bundled.__file__).parent
SCENE = SceneConfig(seed=90_001, rate_hz=2, duration_s=6, width=480, height=272)
"""A seed that the training, which counts from 2024, never used."""


def _weights(name: str) -> Weights:
    return Weights(name="bundled", path=FOLDER / f"{name}.safetensors", sha256="", fallback="")


@pytest.fixture(scope="module")
def frames() -> list[RenderedFrame]:
    return list(render(SCENE))


@pytest.fixture(scope="module")
def detector() -> YoloDetector:
    return YoloDetector(DetectorConfig(image_size=480, device="cpu"), _weights("detector"))


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low, high = np.maximum(first[:, None, :2], second[None, :, :2]), np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None, :] - shared))


def test_the_weights_are_small_and_have_metadata() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    network, embedder = ("architecture", "names"), ("backbone", "dimension")
    kinds = {"aflink": ("shape",), "detector-free": network, "detector": network,
             "embedder-free": embedder, "embedder": embedder}  # fmt: skip
    assert [file.stem for file in files] == list(kinds)
    assert sum(file.stat().st_size for file in files) < 20_000_000
    for file, keys in zip(files, kinds.values(), strict=True):
        with safe_open(file, framework="numpy") as weights:
            assert {*keys, "command", "seed", "metrics"} <= set(weights.metadata())
        assert file.with_suffix(".md").exists()


def test_the_cards_give_the_metrics_of_the_weights_they_describe() -> None:
    for name in ("detector", "detector-free", "embedder", "embedder-free"):
        card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        with safe_open(FOLDER / f"{name}.safetensors", framework="numpy") as weights:
            measured = json.loads(weights.metadata()["metrics"])
        assert measured
        for what, value in measured.items():
            lower, upper = f"{value - 1e-9:.3f}", f"{value + 1e-9:.3f}"
            assert lower in card or upper in card, f"{name}: {what}"


def test_the_detector_finds_rendered_people_of_an_unseen_seed(
    detector: YoloDetector, frames: list[RenderedFrame]
) -> None:
    found = wanted = wrong = 0
    for rendered, detections in zip(
        frames, detector.detect([rendered.frame.image for rendered in frames]), strict=True
    ):
        truth = rendered.truth
        boxes = np.clip(truth.boxes, 0, (SCENE.width, SCENE.height) * 2)
        sure = detections.boxes[detections.scores > 0.5]
        seen = truth.visibility > 0.4
        wanted += int(seen.sum())
        if seen.any() and len(detections):
            found += int((_iou(boxes[seen], detections.boxes).max(axis=1) > 0.5).sum())
        if len(sure):
            overlap = _iou(sure, boxes).max(axis=1) if len(boxes) else np.zeros(len(sure))
            wrong += int((overlap < 0.3).sum())
    assert wanted > 20
    assert found / wanted > 0.9
    assert wrong <= 2


def test_the_detector_finds_no_people_in_an_empty_scene(detector: YoloDetector) -> None:
    empty = [
        next(render(SceneConfig(seed=seed, people=0, width=480, height=272))).frame.image
        for seed in range(91_000, 91_008)
    ]
    assert sum(int((detections.scores > 0.5).sum()) for detections in detector.detect(empty)) <= 1


@pytest.mark.skipif(real_data() is None, reason=NO_DATA)
def test_the_free_detector_finds_people_on_real_frames() -> None:
    """At the size that its author trained it at; how many it finds elsewhere is in its card."""
    folder = real_data()
    assert folder is not None
    detector = YoloDetector(DetectorConfig(image_size=416, confidence=0.25, device="cpu"), _weights("detector-free"))
    sequence = folder / "mot" / "TUD-Campus"
    truth = np.loadtxt(sequence / "gt" / "gt.txt", delimiter=",")
    found = wanted = 0
    for number in range(1, 72, 10):
        (detections,) = detector.detect([read_image(sequence / "img1" / f"{number:06d}.jpg")])
        boxes = truth[truth[:, 0] == number, 2:6]
        boxes = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        wanted += len(boxes)
        if len(detections):
            found += int((_iou(boxes, detections.boxes).max(axis=1) > 0.5).sum())
    assert wanted > 30
    assert found / wanted > 0.6


def test_the_embedder_separates_rendered_people_at_the_default_distance(frames: list[RenderedFrame]) -> None:
    config = ReIDConfig(device="cpu")
    embedder = build_embedder(config, _weights("embedder"))
    crops, ids = [], []
    for rendered in frames:
        whole = rendered.truth.visibility > 0.7
        boxes = rendered.truth.boxes[whole]
        crops.append(cut_crops(rendered.frame.image, boxes, config.crop_height, config.crop_width))
        ids.append(rendered.truth.ids[whole])
    embeddings, labels = embedder.embed(np.concatenate(crops)), np.concatenate(ids)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    distances = 1 - embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    other = ~same
    np.fill_diagonal(same, False)
    assert same.sum() > 50
    # The card says how far these weights get; different people must stay apart even if returns are missed.
    assert (distances[same] <= config.max_distance).mean() > 0.5
    assert (distances[other] <= config.max_distance).mean() < 0.01

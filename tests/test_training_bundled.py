from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from motserve.errors import InvalidConfig
from motserve.reid.network import EmbedderNetwork
from training import bundled
from training.bundled_config import (
    BundledConfig,
    DetectorTraining,
    EmbedderTraining,
    PictureConfig,
    load_bundled_config,
)
from training.bundled_crops import render_crops
from training.bundled_embedder import train_embedder
from training.bundled_metrics import measure_pairs
from training.bundled_pictures import pictures
from training.rendered import write_dataset

CONFIG = Path(__file__).parents[1] / "configs" / "training" / "bundled.yaml"
TINY = PictureConfig(longer_side=128, most_people=3, empty=0.0, least_height=0.3)


def test_the_shipped_settings_are_valid() -> None:
    assert isinstance(load_bundled_config(CONFIG), BundledConfig)


@pytest.mark.parametrize("text", ["detector: {cycle: 3}", "detector: {cycles: [0]}", "- a", "a: ["])
def test_wrong_settings_are_refused_with_the_file_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig, match=r"settings\.yaml"):
        load_bundled_config(file)
    assert bundled.main(["detector", "--config", str(file), "--output", str(tmp_path)]) == 2


def test_pictures_follow_from_the_seed() -> None:
    first, again, other = ([shot for shot, _ in pictures(TINY, seed, 3)] for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.boxes, two.boxes)
    assert any(
        one.image.shape != two.image.shape or (one.image != two.image).any()
        for one, two in zip(first, other, strict=True)
    )


def test_labels_are_fractions_of_the_picture_and_leave_out_the_hidden(tmp_path: Path) -> None:
    settings = DetectorTraining(pictures=TINY, train_pictures=6, validation_pictures=2, least_visibility=0.5)
    data = write_dataset(settings, 3, tmp_path / "set")
    labels = sorted((tmp_path / "set" / "labels" / "train").glob("*.txt"))
    assert len(labels) == 6
    shots = [shot for shot, _ in pictures(TINY, 6, 6)]
    for file, shot in zip(labels, shots, strict=True):
        rows = np.array([[float(v) for v in line.split()] for line in file.read_text().splitlines()]).reshape(-1, 5)
        assert len(rows) <= (shot.visibility >= 0.5).sum()
        assert ((rows >= 0) & (rows <= 1)).all()
    stamp = data.stat().st_mtime_ns
    assert write_dataset(settings, 3, tmp_path / "set").stat().st_mtime_ns == stamp, "a finished set is kept"


def test_crops_show_everybody_equally_often_and_are_kept(tmp_path: Path) -> None:
    settings = EmbedderTraining(pictures=TINY, views=4, crop_height=64, crop_width=32)
    crops = render_crops(settings, 1, 5, tmp_path / "crops.npz")
    assert crops.pixels.shape == (5, 4, 64, 32, 3)
    assert all(len(set(row)) == 4 for row in crops.pictures.tolist()), "every view is of another picture"
    np.testing.assert_array_equal(render_crops(settings, 1, 5, tmp_path / "crops.npz").pixels, crops.pixels)


def test_a_tiny_training_writes_weights_that_load(tmp_path: Path) -> None:
    embedder = EmbedderTraining(
        pictures=TINY,
        train_identities=4,
        validation_identities=3,
        views=4,
        crop_height=64,
        crop_width=32,
        dimension=16,
        identities_per_batch=2,
        views_per_identity=2,
        half_size_steps=1,
        steps=2,
        warmup_steps=1,
    )
    path = train_embedder(BundledConfig(embedder=embedder), tmp_path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a mapping
    assert (metadata["backbone"], metadata["dimension"]) == ("mobilenet_v3_small", "16")
    network = EmbedderNetwork(metadata["backbone"], 16)
    network.load_state_dict(state)
    assert network.eval()(torch.zeros(1, 3, 64, 32)).shape == (1, 16)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_a_tiny_detector_training_writes_weights_that_load(tmp_path: Path) -> None:
    from motserve.config import DetectorConfig
    from motserve.detection.yolo import YoloDetector
    from motserve.weights import Weights
    from training.bundled_detector import train_detector

    settings = DetectorTraining(
        pictures=TINY,
        train_pictures=8,
        validation_pictures=4,
        image_size=96,
        cycles=(1, 1),
        batch_size=4,
        mosaic_free_epochs=0,
    )
    path = train_detector(BundledConfig(detector=settings), tmp_path)
    detector = YoloDetector(
        DetectorConfig(image_size=96, device="cpu"), Weights(name="tiny", path=path, sha256="", fallback="")
    )
    assert detector.class_names == {0: "person"}
    assert len(detector.detect([np.zeros((96, 96, 3), np.uint8)])) == 1


def test_pairs_are_measured_as_by_hand() -> None:
    angles = np.radians([0.0, 10.0, 80.0, 90.0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    apart = measure_pairs(embeddings, np.array([0, 0, 1, 1]), 0.3)
    assert (apart.true_accept, apart.false_accept, apart.rank1, apart.mean_ap) == (1, 0, 1, 1)
    assert apart.same_median == pytest.approx(1 - np.cos(np.radians(10)), abs=1e-6)
    mixed = measure_pairs(embeddings, np.array([0, 1, 0, 1]), 0.3)
    assert (mixed.true_accept, mixed.false_accept, mixed.rank1) == (0, 0.5, 0)


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "resnet50"])
def test_the_network_returns_embeddings(backbone: str) -> None:
    network = EmbedderNetwork(backbone, 32).eval()
    pictures_ = torch.zeros(2, 3, 64, 32)
    assert network(pictures_).shape == (2, 32)
    torch.testing.assert_close(network(pictures_), network.norm(network.features(pictures_)))


def test_the_last_stage_of_the_resnet_keeps_its_resolution() -> None:
    assert EmbedderNetwork("resnet50").trunk(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)


def test_the_resnet_takes_the_trunk_of_a_classifier() -> None:
    from torchvision.models import resnet50

    source = resnet50(weights=None)
    network = EmbedderNetwork("resnet50")
    assert network.load_trunk(source.state_dict()) == ([], [])
    torch.testing.assert_close(network.trunk[0].weight, source.conv1.weight)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ValueError, match="vgg"):
        EmbedderNetwork("vgg")

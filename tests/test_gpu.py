"""What only a CUDA device can show: `pytest -m gpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from motserve.config import Config, load_config
from motserve.detection import build_detector
from motserve.lab.scenes import SceneConfig, render
from motserve.models.weights import resolve_weights
from motserve.reid import build_embedder
from motserve.reid.backbones import BACKBONES
from motserve.reid.network import EmbedderNetwork
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD
from motserve.reid.torch_embedder import TorchEmbedder
from motserve.types import Image

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def picture() -> Image:
    return next(iter(render(SceneConfig(seed=3, duration_s=0.04, people=6)))).frame.image


def configured(section: str, **settings: Any) -> Config:
    return load_config([{section: {"weights": "bundled", **settings}}])


@pytest.mark.parametrize("half", [False, True])
def test_detections_on_cuda_are_those_on_the_cpu(picture: Image, half: bool) -> None:
    found = []
    for settings in ({"device": "cpu"}, {"device": "cuda", "half": half}):
        config = configured("detector", **settings)
        detector = build_detector(config.detector, resolve_weights("detector", config))
        found.append(detector.detect([picture] * 3))
    for cpu, cuda in zip(*found, strict=True):
        sure = cpu.scores > 0.5
        assert sure.any()
        np.testing.assert_allclose(cuda.boxes[: sure.sum()], cpu.boxes[sure], atol=2.0)


@pytest.mark.parametrize("half", [False, True])
def test_embeddings_on_cuda_are_those_on_the_cpu(picture: Image, half: bool) -> None:
    crops = np.stack([picture[20:276, x : x + 128] for x in (0, 200, 400)])
    embeddings = []
    for settings in ({"device": "cpu"}, {"device": "cuda", "half": half}):
        config = configured("reid", **settings)
        embeddings.append(build_embedder(config.reid, resolve_weights("reid", config)).embed(crops))
    assert ((embeddings[0] * embeddings[1]).sum(axis=1) > 0.995).all()


def untrained(backbone: str, crops: np.ndarray) -> EmbedderNetwork:
    """A network whose trunk normalises by what it saw; by nothing, signals of deep ones fade below half precision."""
    torch.manual_seed(0)
    network = EmbedderNetwork(backbone, 64)
    for module in network.trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    pixels = torch.from_numpy((crops[..., ::-1] / 255 - IMAGENET_MEAN) / IMAGENET_STD).float()
    with torch.no_grad():
        network.trunk.train()(pixels.permute(0, 3, 1, 2))
    return network


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_on_cuda_what_it_gives_on_the_cpu(picture: Image, backbone: str, half: bool) -> None:
    crops = np.stack([picture[20:276, x : x + 128] for x in (0, 200, 400)])
    cpu, cuda = (
        TorchEmbedder(configured("reid", **settings).reid, untrained(backbone, crops)).embed(crops)
        for settings in ({"device": "cpu"}, {"device": "cuda", "half": half})
    )
    assert (cpu @ cpu.T).min() < 0.98
    assert ((cpu * cuda).sum(axis=1) > 0.99).all()


@pytest.mark.parametrize("half", [False, True])
def test_people_cut_out_on_cuda_are_those_cut_out_on_the_cpu(picture: Image, half: bool) -> None:
    boxes = np.array([[0, 20, 128, 276], [200.4, 30.7, 300, 250], [-30, -30, 100, 200]], np.float32)
    embeddings = []
    for settings in ({"device": "cpu"}, {"device": "cuda", "half": half, "batch_size": 2}):
        config = configured("reid", **settings)
        embedder = build_embedder(config.reid, resolve_weights("reid", config))
        embeddings.append(embedder.embed_boxes(picture, boxes))
        assert embedder.embed_boxes(picture, boxes[:0]).shape == (0, embedder.dimension)
    assert ((embeddings[0] * embeddings[1]).sum(axis=1) > 0.995).all()

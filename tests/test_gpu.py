"""What only a CUDA device can show: `pytest -m gpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motserve.config import Config, load_config
from motserve.detection import build_detector
from motserve.reid import build_embedder
from motserve.scenes import SceneConfig, render
from motserve.types import Image
from motserve.weights import resolve_weights

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

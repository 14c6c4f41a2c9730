"""The keys by which scores of models are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from motserve.config import VideoConfig, load_config
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.experiments.measure import measure_tracking
from motserve.lab.scenes import SceneConfig, ground_truth_rows, render
from motserve.video import VideoWriter


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with twelve frames of people walking, and its ground truth."""
    folder = tmp_path / "gt"
    (folder / "hall/gt").mkdir(parents=True)
    frames = list(render(SceneConfig(seed=5, width=192, height=112, rate_hz=6, duration_s=2)))
    with VideoWriter(folder / "hall/hall.mp4", 192, 112, VideoConfig(), rate_hz=6) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame.frame.image, number / 6)
    (folder / "hall/gt/gt.txt").write_text("".join(f"{row}\n" for row in ground_truth_rows(frames)))
    return folder


def test_tracking_scores_are_comparable_between_detectors_and_not_between_embedders(
    scene: Path, tmp_path: Path, untrained_detector: Path, untrained_embedder: Path
) -> None:
    def key(detector: Any, embedder: Any) -> str:
        tree = {
            "detector": {"weights": [str(detector)], "image_size": 64},
            "reid": {"weights": [str(embedder)], "policy": "on_demand"},
            "cache_dir": str(tmp_path / "cache"),
        }
        return measure_tracking(load_config([tree]), find_truth(scene)).key

    with_bundled = key("bundled", "bundled")
    assert key(untrained_detector, "bundled") == with_bundled
    assert key("bundled", untrained_embedder) != with_bundled

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from experiment_data import write

from motserve.config import Config, load_config
from motserve.errors import InvalidData
from motserve.lab.evaluation.sequences import TruthFile
from motserve.lab.experiments.detections import DetectedVideo, read_detections


def read(folder: Path, scores: list[float], scale: str = "auto", **settings: float) -> DetectedVideo:
    """Read a file of one frame; every score counts."""
    path = write(folder / "det.txt", [f"1,-1,1,1,10,20,{score}" for score in scores])
    config: Config = load_config(
        [{"detector": {"confidence": 0}, "evaluation": {"detection_scores": scale, **settings}}]
    )
    return read_detections(path, TruthFile("walk", path, 1, 10), config)


def confidences(video: DetectedVideo) -> list[float]:
    return [round(float(score), 4) for score in video.detections[0].scores]


def test_confidences_are_not_converted(tmp_path: Path) -> None:
    video = read(tmp_path, [0, 0.25, 1])
    assert confidences(video) == [1, 0.25, 0]
    assert video.source["scores"] == "as-is"
    assert "score_range" not in video.source


def test_log_odds_become_probabilities(tmp_path: Path) -> None:
    video = read(tmp_path, [-1.5, 0, 1.9])
    assert confidences(video) == [round(float(1 / (1 + np.exp(-score))), 4) for score in (1.9, 0, -1.5)]
    assert video.source["scores"] == "logistic"
    assert video.source["score_range"] == pytest.approx([-1.5, 1.9])


def test_other_scores_are_ranked_and_equal_ones_share_their_rank(tmp_path: Path) -> None:
    video = read(tmp_path, [-0.4, 117.8, 30, 30, 138.9])
    assert confidences(video) == [1, 0.8, 0.5, 0.5, 0.2]
    assert (video.source["scores"], video.source["score_range"]) == ("rank", pytest.approx([-0.4, 138.9]))
    assert confidences(read(tmp_path, [5, 5], "rank")) == [0.75, 0.75]


def test_the_limit_of_log_odds_is_configurable(tmp_path: Path) -> None:
    assert read(tmp_path, [-10, 10]).source["scores"] == "logistic"
    assert read(tmp_path, [-10, 10.01]).source["scores"] == "rank"
    assert read(tmp_path, [-10, 10], largest_log_odds=5).source["scores"] == "rank"


def test_a_configured_scale_is_used_for_any_scores(tmp_path: Path) -> None:
    assert confidences(read(tmp_path, [0.2, 0.4], "rank")) == [1, 0.5]
    assert confidences(read(tmp_path, [0, 0.5], "logistic")) == [0.6225, 0.5]
    assert confidences(read(tmp_path, [-900, 900], "logistic")) == [1, 0]
    for bad in (1.01, -0.1, 117.8):
        with pytest.raises(InvalidData, match=rf"det\.txt, line 2: score {bad} is not a confidence .* --scores rank"):
            read(tmp_path, [0.5, bad, bad], "as-is")


def test_the_confidence_limit_applies_to_converted_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "det.txt", [f"1,-1,1,1,10,20,{score}" for score in (-3, -2, 0, 2)])
    video = read_detections(path, TruthFile("walk", path, 1, 10), load_config([{"detector": {"confidence": 0.1}}]))
    assert confidences(video) == [0.8808, 0.5, 0.1192]


def test_a_file_without_detections_has_no_range(tmp_path: Path) -> None:
    video = read(tmp_path, [], "rank")
    assert (len(video.detections[0]), video.source["scores"]) == (0, "rank")
    assert "score_range" not in video.source

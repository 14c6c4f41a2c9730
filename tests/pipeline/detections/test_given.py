"""Detections of the user in place of the detector."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motserve
from motserve.errors import InvalidConfig, InvalidData, MotserveError, NotFound
from motserve.pipeline.video_run import VideoRun

ROWS = [[10.0 + frame, 20.0, 50.0 + frame, 100.0, 0.9] for frame in range(12)]
"""One person in each frame of the clip: x1, y1, x2, y2, confidence."""


def track(clip: Path, detections: Any, *more: str) -> VideoRun:
    """Track with weights that do not exist: a detector would fail."""
    overrides = ["detector.weights=/none.pt", "reid.policy=off", *more]
    return motserve.track(clip, detections=detections, overrides=overrides)


def boxes(run: VideoRun) -> list[list[list[float]]]:
    return [frame.boxes.tolist() for frame in run]


def mot_file(folder: Path, *lines: str) -> Path:
    path = folder / "det.txt"
    path.write_text("\n".join(lines))
    return path


def mot_rows() -> list[str]:
    return [
        f"{frame + 1},-1,{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},{score},-1,-1,-1"
        for frame, (x1, y1, x2, y2, score) in enumerate(ROWS)
    ]


def test_a_file_and_a_list_give_the_tracks_of_the_tracker(clip: Path, tmp_path: Path) -> None:
    tracker = motserve.Tracker(rate_hz=6)
    frames = [[row] for row in ROWS]
    expected = [tracker.update(frame, number / 6).boxes.tolist() for number, frame in enumerate(frames)]
    assert expected[-1]
    for given in (mot_file(tmp_path, *mot_rows()), str(tmp_path / "det.txt"), frames, np.array(frames)):
        run = track(clip, given)
        assert boxes(run) == expected
        result = run.run()
        assert result.summary["identities"] == 1
        assert result.models["detector"] is None
        assert result.class_names == {0: "person"}
    described = track(clip, tmp_path / "det.txt").run().provenance["data"][clip.name]
    assert described["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert described["detections"]["file"] == "det.txt"


def test_frames_behind_the_last_have_none_and_weak_ones_are_dropped(clip: Path, tmp_path: Path) -> None:
    others = ["7,-1,50,50,20,20,0.05", "7,-1,50,50,0.5,20,0.9", "900,-1,50,50,20,20,0.9"]
    weak = [*mot_rows()[:6], *(f"{row},-1,-1,-1" for row in others)]
    run = track(clip, mot_file(tmp_path, *weak), "detector.confidence=0.1", "tracker.lost_buffer_s=0.01")
    seen = boxes(run)
    assert len(seen) == 12
    assert seen[5]
    assert not any(seen[6:])
    assert boxes(track(clip, [[row] for row in ROWS[:6]], "tracker.lost_buffer_s=0.01")) == seen


def test_given_detections_are_used_in_all_frames(clip: Path) -> None:
    frames = [[row] for row in ROWS]
    assert boxes(track(clip, frames, "detector.every=3")) == boxes(track(clip, frames))


def test_classes_have_names(clip: Path, tmp_path: Path) -> None:
    frames = [[[*row, 3]] for row in ROWS]
    result = track(clip, frames).run()
    assert result.class_names == {0: "person", 3: "class 3"}
    assert '"class 3"' in result.save(tmp_path / "tracks.json").read_text()


def test_returns_are_recognised_with_given_detections(clip: Path, untrained: Sequence[str]) -> None:
    overrides = [*untrained[1::2], "detector.weights=/none.pt"]
    result = motserve.track(clip, detections=[[row] for row in ROWS], overrides=overrides).run()
    assert result.summary["embeddings"] > 0


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ("none.txt", NotFound, "there is no file none.txt"),
        (np.array(3), InvalidConfig, "detections must be the path of a MOTChallenge file, or a list"),
        (3, InvalidConfig, "detections must be the path of a MOTChallenge file, or a list .* not 3"),
        ([[[1, 2, 3]]], InvalidData, r"frame 0: detections must have the shape"),
        ([[], [[5, 5, 1, 9, 0.9]]], InvalidData, "frame 1: detection 0 has a box without area"),
        ("", InvalidConfig, "a path cannot be empty"),
    ],
)
def test_others_are_refused_at_once(clip: Path, given: Any, kind: type[MotserveError], said: str) -> None:
    with pytest.raises(kind, match=said):
        track(clip, given)


def test_scores_that_are_no_confidences_are_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"det.txt, line 2: score 71 is not a confidence in \[0, 1\]"):
        track(clip, mot_file(tmp_path, "1,-1,1,1,9,9,0.9", "2,-1,1,1,9,9,71"))

"""The warning that a picture moves for long and the bundled detector finds nobody."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import motserve
from motserve.config import PipelineConfig, VideoConfig
from motserve.pipeline.movement import MovementWatch, watch_bundled
from motserve.types import Image
from motserve.video import VideoWriter


def picture(step: int, size: int = 12) -> Image:
    """A bright square that moves by its size with each step, on grey with a little noise."""
    image = np.random.default_rng(step).integers(96, 104, (72, 128, 3), np.uint8)
    left = step * size % (128 - size)
    image[20 : 20 + size, left : left + size] = 255
    return image


def silences(pictures: list[Image], detections: list[int], rate_hz: float = 2) -> list[tuple[int, float]]:
    calls: list[tuple[int, float]] = []
    watch = MovementWatch(3, lambda frame, seconds: calls.append((frame, seconds)))
    for index, (image, count) in enumerate(zip(pictures, detections, strict=True)):
        watch.see(index, index / rate_hz, image, count)
    return calls


def test_movement_without_a_detection_is_said_once() -> None:
    assert silences([picture(step) for step in range(20)], [0] * 20) == [(6, 3.0)]


def test_a_detection_starts_again() -> None:
    detections = [0] * 5 + [1] + [0] * 8
    assert silences([picture(step) for step in range(14)], detections) == [(11, 3.0)]
    assert silences([picture(step) for step in range(14)], [1] * 14) == []


def test_a_still_picture_and_noise_do_not_move() -> None:
    noise = [np.random.default_rng(step).integers(90, 110, (72, 128, 3), np.uint8) for step in range(20)]
    assert silences(noise, [0] * 20) == []


def test_the_rate_does_not_matter() -> None:
    slow = [picture(step // 15) for step in range(300)]
    assert silences(slow, [0] * 300, rate_hz=30) == [(90, 3.0)]


def test_a_jump_of_the_clock_is_no_movement() -> None:
    assert silences([picture(step) for step in range(9)], [0] * 9, rate_hz=0.1) == []


@pytest.mark.parametrize(
    ("detector", "silence_s", "watched"),
    [
        ({"name": "bundled"}, 5.0, True),
        ({"name": "bundled"}, 0.0, False),
        ({"name": "a.pt"}, 5.0, False),
        (None, 5.0, False),
    ],
)
def test_only_the_bundled_detector_is_watched(detector: dict[str, str] | None, silence_s: float, watched: bool) -> None:
    watch = watch_bundled(detector, PipelineConfig(silence_s=silence_s), lambda *_: None)
    assert (watch is not None) == watched


def test_a_run_warns_and_its_result_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = tmp_path / "leaves.mp4"
    with VideoWriter(video, 128, 72, VideoConfig(), rate_hz=2) as writer:
        for step in range(16):
            writer.write(picture(step), step / 2)
    settings = ["detector.image_size=96", "reid.policy=off", "pipeline.silence_s=3", "disk.detections_cache_bytes=0"]
    with caplog.at_level(logging.WARNING):
        result = motserve.track(video, model="bundled", overrides=settings).run()
    (warning,) = result.warnings
    assert result.summary["warnings"] == [warning]
    assert warning.startswith("people may be missed: the picture moves for 3 s and the bundled detector finds nobody")
    assert warning in caplog.text

"""Streams of detections for tests of trackers, and functions that run them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motserve import config
from motserve.base import TrackerBase
from motserve.config import (
    BotSortConfig,
    ByteTrackConfig,
    DeepSortConfig,
    OcSortConfig,
    SortConfig,
    StrongSortConfig,
    TrackerConfig,
)
from motserve.lab.benchmark.streams import StreamSettings
from motserve.types import Cues, Detections, Tracks

RATE = 30
# Frequent misses and dips of the score, so that tracks are lost, found again, expire and run into each other.
HARD = StreamSettings(width=800, height=600, speed=8, missed=0.3, unsure=0.3, false_alarms=0.3)
PUBLISHED = ByteTrackConfig(**config.PUBLISHED)
"""The published ByteTrack."""

EVERY: dict[str, TrackerConfig] = {
    "bytetrack": ByteTrackConfig(),
    "bytetrack-published": PUBLISHED,
    "botsort": BotSortConfig(),
    "ocsort": OcSortConfig(),
    "sort": SortConfig(),
    "deepsort": DeepSortConfig(),
    "strongsort": StrongSortConfig(),
}
"""Every tracker with its default configuration."""


def real_files() -> list[Path]:
    folder = os.environ.get("MOTSERVE_DATA")
    return sorted(Path(folder, "dets").glob("*/*.txt")) if folder else []


def read_detections(path: Path) -> list[Detections]:
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    rows[:, 4:6] += rows[:, 2:4]
    starts = np.searchsorted(rows[:, 0], np.arange(2, int(rows[-1, 0]) + 1))
    return [make(of_frame[:, 2:6], of_frame[:, 6]) for of_frame in np.split(rows, starts)]


def make(boxes: object, scores: object, classes: object = None) -> Detections:
    box, score = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32)
    return Detections(box, score, np.zeros(len(score), np.int64) if classes is None else np.asarray(classes, np.int64))


def person(x: float, score: float = 0.9, y: float = 100.0) -> Detections:
    return make([[x, y, x + 40, y + 100]], [score])


def track_stream(
    tracker: TrackerBase, stream: Sequence[Detections], rate: float = RATE, start: int = 0
) -> list[Tracks]:
    return [tracker.update(detections, (start + index) / rate) for index, detections in enumerate(stream)]


def track_with_embeddings(tracker: TrackerBase, stream: Sequence[Detections], start: int = 0) -> list[Tracks]:
    """Return embeddings that depend on the position: left, middle or right."""
    answers = []
    for index, detections in enumerate(stream, start):
        rows = tracker.rows_to_embed(detections)
        place = np.clip((detections.boxes[rows, 0] // 300).astype(int), 0, 2)
        cues = Cues(rows=rows, embeddings=np.eye(3, dtype=np.float32)[place])
        answers.append(tracker.update(detections, index / RATE, cues))
    return answers


def assert_same(left: Sequence[Tracks], right: Sequence[Tracks]) -> None:
    for a, b in zip(left, right, strict=True):
        for name in ("ids", "boxes", "scores", "classes", "detections"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))

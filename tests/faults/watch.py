"""Watches videos from outside: how long no frame of theirs came, and what is wrong with the frames in the end."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

POLL_S = 0.1


class Watch:
    """Notes each new frame of some videos in the files of the service, and each answer of the service.

    Args:
        storage: Folder of the service.
        videos: IDs of the videos.
        answers: Asks the service, and returns whether it answers.
    """

    def __init__(self, storage: Path, videos: list[str], answers: Any) -> None:
        self._paths = {video: storage / "videos" / video / "tracks.ndjson" for video in videos}
        self._answers = answers
        self._since = time.monotonic()
        self.frames = dict.fromkeys(videos, 0)
        self._moved = dict.fromkeys(videos, self._since)
        self._answered = self._since
        self.pauses = dict.fromkeys(videos, 0.0)
        self.silence = 0.0
        self._finished: set[str] = set()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._ask)]

    def begin(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def mark(self) -> None:
        """Count pauses from now on."""
        now = time.monotonic()
        self.pauses, self.silence, self._answered = dict.fromkeys(self.pauses, 0.0), 0.0, now
        self._moved = dict.fromkeys(self._moved, now)

    def finished(self, video: str) -> None:
        """Stop counting pauses of a video."""
        self._finished.add(video)

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _read(self) -> None:
        while not self._ended.wait(POLL_S):
            for video, path in self._paths.items():
                lines = path.read_bytes().count(b"\n") if path.exists() else 0
                now = time.monotonic()
                if video not in self._finished:
                    self.pauses[video] = max(self.pauses[video], now - self._moved[video])
                if lines > self.frames[video]:
                    self.frames[video], self._moved[video] = lines, now

    def _ask(self) -> None:
        while not self._ended.wait(POLL_S):
            good = self._answers()
            now = time.monotonic()
            self.silence = max(self.silence, now - self._answered)
            if good:
                self._answered = now


@dataclass(frozen=True)
class Difference:
    """What is wrong with the frames of a video, beside those of an undisturbed run."""

    lost: int = 0
    doubled: int = 0
    changed: int = 0


def frames_of(ndjson: str) -> list[dict[str, Any]]:
    """Read tracks as the service answers them."""
    return [json.loads(line) for line in ndjson.splitlines()]


def difference(frames: list[dict[str, Any]], expected: list[dict[str, Any]]) -> Difference:
    """Compare frames with those of an undisturbed run.

    A person counts as changed if it has another identity or a box that differs by over half a pixel: networks round
    otherwise when frames of several videos share a pass.
    """
    numbers = [frame["frame"] for frame in frames]
    by_number = {frame["frame"]: frame["tracks"] for frame in frames}
    changed = 0
    for frame in expected:
        people = {track["id"]: track["box"] for track in by_number.get(frame["frame"], [])}
        boxes = {track["id"]: track["box"] for track in frame["tracks"]}
        changed += len(people.keys() ^ boxes.keys())
        changed += sum(not np.allclose(people[one], boxes[one], atol=0.5) for one in people.keys() & boxes.keys())
    lost = len({frame["frame"] for frame in expected} - set(numbers))
    return Difference(lost, len(numbers) - len(set(numbers)), changed)

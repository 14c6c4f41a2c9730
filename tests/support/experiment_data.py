"""Small sequences on disk, and a clock that tests advance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from motserve.config import Config
from motserve.lab.benchmark.peers import Contender, Step
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.sequences import LabelledSequence, load_sequences
from motserve.types import Detections, Tracks

OFF: dict[str, Any] = {"reid": {"policy": "off"}}
PUBLISHED = Path(__file__).parents[2] / "configs" / "tracker" / "bytetrack-published.yaml"


def write_sequence(
    root: Path, name: str = "walk", frames: int = 30, people: int = 4, seed: int = 0, rate_hz: float = 10
) -> Path:
    """Write ground truth of people who walk in straight lines into `gt`, and imperfect detections into `det`."""
    random = np.random.default_rng(seed)
    start, speed = random.uniform(0, 300, (people, 2)), random.uniform(-6, 6, (people, 2))
    truth, seen = [], []
    for frame in range(1, frames + 1):
        for person, (left, top) in enumerate(start + speed * frame, 1):
            truth.append(f"{frame},{person},{left:.2f},{top:.2f},40,100,1,1,1")
            if random.random() < 0.85:
                x, y, width, height = np.array([left, top, 40, 100]) + random.normal(0, 2, 4)
                seen.append(f"{frame},-1,{x:.2f},{y:.2f},{width:.2f},{height:.2f},{random.uniform(0.2, 0.95):.3f}")
        if random.random() < 0.4:
            x, y = random.uniform(0, 400, 2)
            seen.append(f"{frame},-1,{x:.2f},{y:.2f},35,90,{random.uniform(0.1, 0.8):.3f}")
    folder = root / "gt" / name
    write(folder / "gt" / "gt.txt", truth)
    write(folder / "seqinfo.ini", ["[Sequence]", f"frameRate={rate_hz}", f"seqLength={frames}"])
    write(root / "det" / f"{name}.txt", seen)
    return root


def write(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def load_written(root: Path, config: Config) -> list[LabelledSequence]:
    return load_sequences(find_truth(root / "gt"), Models(config), Cache(root / "cache"), detections=root / "det")


class Clock:
    """A clock that advances only when a test sets it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Stepper(Contender):
    """A contender that advances the clock in each of its three steps and gives every detection a new ID."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.timestamps: list[float] = []

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        self._clock.now += 1
        self.timestamps.append(timestamp)

        def step() -> Detections:
            self._clock.now += 0.125
            return detections

        return step

    def read(self, answer: Detections) -> Tracks:
        self._clock.now += 1
        numbers = np.arange(len(answer))
        return Tracks(numbers + 1, answer.boxes, answer.scores, answer.classes, numbers)

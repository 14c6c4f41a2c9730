"""Random crowds of tracks that begin, are lost and return, with embeddings of their people."""

from __future__ import annotations

from typing import Any

import numpy as np

from motserve.config import ReIDConfig
from motserve.types import NO_DETECTION, FloatArray, Tracks

FRAMES = 200
RATE_HZ = 10
DIMENSION = 16


def settings(seed: int) -> tuple[ReIDConfig, tuple[int, int] | None]:
    random = np.random.default_rng([seed, 0])
    config: dict[str, Any] = {
        "policy": str(random.choice(["on_demand", "interval", "always", "off"])),
        "max_distance": float(random.uniform(0.1, 0.8)),
        "gate": {"reentry": bool(random.random() < 0.7)},
        "gallery": {
            "size": int(random.integers(1, 9)),
            "max_identities": int(random.choice([1, 3, 2000])),
            "memory_s": float(random.choice([0.3, 5, 120])),
            "contradiction": float(random.uniform(0.2, 1.2)),
        },
        "decision": {
            "wait_s": float(random.choice([0, 0.3, 1, 2])),
            "num_embeddings": int(random.integers(1, 5)),
            "margin": float(random.choice([0, 0.05])),
            "interval_s": float(random.choice([0, 0.2])),
        },
    }
    return ReIDConfig.model_validate(config), None if random.random() < 0.5 else (640, 480)


class Crowd:
    """Tracks that begin, are lost, are matched again and reported with predicted boxes; each is of one person."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([seed, 1])
        self.people = unit(self.random.normal(size=(30, DIMENSION)))
        self.present: dict[int, tuple[int, np.ndarray]] = {}
        self.lost: dict[int, tuple[int, np.ndarray]] = {}
        self.next_track = 1

    def step(self) -> Tracks:
        random = self.random
        for track in [track for track in self.present if random.random() < 0.06]:
            self.lost[track] = self.present.pop(track)
        for track in [track for track in self.lost if random.random() < 0.04]:
            self.present[track] = self.lost.pop(track)
        for _ in range(random.integers(0, 3)):
            self.present[self.next_track] = int(random.integers(30)), random.uniform(0, 600, 2)
            self.next_track += 1
        predicted = [track for track in self.lost if random.random() < 0.1]
        ids = [*self.present, *predicted]
        corner = np.array([self.of(track)[1] for track in ids]).reshape(-1, 2) + random.normal(0, 4, (len(ids), 2))
        boxes = np.concatenate([corner, corner + np.array([30, 80])], axis=1).astype(np.float32)
        rows = np.where(np.arange(len(ids)) < len(self.present), 0, NO_DETECTION)
        scores = random.uniform(0.1, 1, len(ids)).astype(np.float32)
        return Tracks(np.array(ids, np.int64), boxes, scores, np.zeros(len(ids), np.int64), rows)

    def of(self, track: int) -> tuple[int, np.ndarray]:
        return self.present.get(track) or self.lost[track]

    def embeddings(self, tracks: list[int]) -> FloatArray:
        people = self.people[[self.of(track)[0] for track in tracks]]
        return unit(people + 0.2 * self.random.normal(size=people.shape))


def unit(vectors: np.ndarray) -> FloatArray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)

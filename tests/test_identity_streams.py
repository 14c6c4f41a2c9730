"""What holds for every stream of tracks, whatever the settings: random crowds that come, go, hide and return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motserve.config import ReIDConfig
from motserve.reid.linker import IdentityLinker
from motserve.reid.waiting import Settled, WaitingFrames
from motserve.types import NO_DETECTION, FloatArray, TrackedFrame, Tracks

FRAMES = 200
RATE_HZ = 10
LOOKS = 16


def settings(seed: int) -> tuple[ReIDConfig, tuple[int, int] | None]:
    random = np.random.default_rng([seed, 0])
    config: dict[str, Any] = {
        "policy": str(random.choice(["on_demand", "interval", "always", "off"])),
        "max_distance": float(random.uniform(0.1, 0.8)),
        "reentry": bool(random.random() < 0.7),
        "gallery": {
            "size": int(random.integers(1, 9)),
            "max_identities": int(random.choice([1, 3, 2000])),
            "memory_s": float(random.choice([0.3, 5, 120])),
            "contradiction": float(random.uniform(0.2, 1.2)),
        },
        "decision": {
            "wait_s": float(random.choice([0, 0.3, 1, 2])),
            "looks": int(random.integers(1, 5)),
            "margin": float(random.choice([0, 0.05])),
            "interval_s": float(random.choice([0, 0.2])),
        },
    }
    return ReIDConfig.model_validate(config), None if random.random() < 0.5 else (640, 480)


class Crowd:
    """Tracks that begin, are lost, found again and shown where they are predicted; each follows one person."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([seed, 1])
        self.people = unit(self.random.normal(size=(30, LOOKS)))
        self.present: dict[int, tuple[int, np.ndarray]] = {}
        self.lost: dict[int, tuple[int, np.ndarray]] = {}
        self.following = 1

    def step(self) -> Tracks:
        random = self.random
        for track in [track for track in self.present if random.random() < 0.06]:
            self.lost[track] = self.present.pop(track)
        for track in [track for track in self.lost if random.random() < 0.04]:
            self.present[track] = self.lost.pop(track)
        for _ in range(random.integers(0, 3)):
            self.present[self.following] = int(random.integers(30)), random.uniform(0, 600, 2)
            self.following += 1
        ghosts = [track for track in self.lost if random.random() < 0.1]
        ids = [*self.present, *ghosts]
        corner = np.array([self.of(track)[1] for track in ids]).reshape(-1, 2) + random.normal(0, 4, (len(ids), 2))
        boxes = np.concatenate([corner, corner + np.array([30, 80])], axis=1).astype(np.float32)
        rows = np.where(np.arange(len(ids)) < len(self.present), 0, NO_DETECTION)
        scores = random.uniform(0.1, 1, len(ids)).astype(np.float32)
        return Tracks(np.array(ids, np.int64), boxes, scores, np.zeros(len(ids), np.int64), rows)

    def of(self, track: int) -> tuple[int, np.ndarray]:
        return self.present.get(track) or self.lost[track]

    def looks(self, tracks: list[int]) -> FloatArray:
        people = self.people[[self.of(track)[0] for track in tracks]]
        return unit(people + 0.2 * self.random.normal(size=people.shape))


def unit(vectors: np.ndarray) -> FloatArray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def run(seed: int) -> tuple[list[Settled], IdentityLinker]:
    config, size = settings(seed)
    crowd, linker, waiting = Crowd(seed), IdentityLinker(config, size), WaitingFrames()
    released: list[Settled] = []
    for index in range(FRAMES):
        timestamp = index / RATE_HZ
        tracks = crowd.step()
        rows = linker.plan(tracks, timestamp)
        assert tracks.measured[rows].all(), "a predicted box is looked at"
        embeddings = crowd.looks(tracks.ids[rows].tolist()) if len(rows) else np.empty((0, 0), np.float32)
        identities = linker.link(tracks, timestamp, rows, embeddings)
        shown = np.flatnonzero(identities)
        frame = TrackedFrame(index, timestamp, tracks.part(shown), identities[shown])
        released += waiting.add(frame, linker.decisions())
        held = index - (released[-1].frame.index if released else -1)
        assert held <= round(config.decision.wait_s * RATE_HZ), "a frame is held back for longer than allowed"
    linker.finish((FRAMES - 1) / RATE_HZ)
    return released + waiting.settle(linker.decisions()), linker


@pytest.mark.parametrize("seed", range(30))
def test_every_frame_is_released_once_in_order_with_identities_that_are_unique(seed: int) -> None:
    released, linker = run(seed)
    assert [one.frame.index for one in released] == list(range(FRAMES))
    for one in released:
        identities = one.frame.identities
        assert (identities > 0).all(), "somebody is undecided still"
        assert len(set(identities.tolist())) == len(identities), "one identity twice in a frame"
        for link in one.frame.links:
            (row,) = np.flatnonzero(one.frame.tracks.ids == link.track)
            assert identities[row] == link.identity
    assert max(max(one.frame.identities, default=0) for one in released) == linker.identities
    assert 0 <= linker.links <= sum(len(one.frame.links) for one in released)


def test_the_same_stream_gives_the_same_identities() -> None:
    first, again = run(7)[0], run(7)[0]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.frame.identities, other.frame.identities)
        assert one.frame.links == other.frame.links


def test_some_of_the_streams_have_links_that_waited() -> None:
    released = [one for seed in range(30) for one in run(seed)[0]]
    assert sum(len(one.frame.links) for one in released) > 20

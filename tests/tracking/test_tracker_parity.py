"""The same tracks as Ultralytics' trackers, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import NO_DATA, real_data
from tracker_streams import HARD, RATE, person, read_detections, real_files
from ultralytics.engine.results import Boxes
from ultralytics.trackers.basetrack import TrackState
from ultralytics.trackers.bot_sort import BOTSORT
from ultralytics.trackers.byte_tracker import BYTETracker
from ultralytics.trackers.oc_sort import OCSORT

from motserve.base import TrackerBase
from motserve.config import PUBLISHED, BotSortConfig, ByteTrackConfig, OcSortConfig
from motserve.lab.benchmark.streams import crowd_stream
from motserve.tracking import build_tracker
from motserve.types import Detections

THRESHOLDS = [(0.25, 0.1, 0.25), (0.6, 0.1, 0.7)]
SECTIONS: dict[str, type[ByteTrackConfig] | type[BotSortConfig] | type[OcSortConfig]] = {
    "bytetrack": ByteTrackConfig, "botsort": BotSortConfig, "ocsort": OcSortConfig,
}  # fmt: skip


class PublishedOcSort(OCSORT):
    """Ultralytics' OC-SORT with the re-update of lost tracks after the first association too, which it omits.

    The paper (section 4.1, "observation-centric re-update") does so "once a track is re-associated with an observation
    after a period of being untracked", after any association. The streams avoid another difference: Ultralytics
    ignores an observation that extends beyond the left border.
    """

    def _apply_match(self, track: Any, det: Any, activated: Any, refind: Any) -> None:
        if track.state != TrackState.Tracked:
            track.apply_oru(det.xyxy, self.frame_id)
        super()._apply_match(track, det, activated, refind)


@dataclass
class Peer:
    """A tracker of Ultralytics with its settings."""

    name: str
    high: float
    low: float
    new: float
    fuse: bool
    buffer: int = RATE
    byte: bool = False

    def build(self) -> BYTETracker:
        kinds = {"bytetrack": BYTETracker, "botsort": BOTSORT, "ocsort": PublishedOcSort}
        return kinds[self.name](
            SimpleNamespace(
                track_high_thresh=self.high, track_low_thresh=self.low, new_track_thresh=self.new,
                track_buffer=self.buffer, match_thresh=0.8, fuse_score=self.fuse, gmc_method="none",
                proximity_thresh=0.5, appearance_thresh=0.8, with_reid=False, delta_t=3, inertia=0.2,
                use_byte=self.byte,
            )
        )  # fmt: skip

    def ours(self) -> TrackerBase:
        config = SECTIONS[self.name](
            high_confidence=self.high, low_confidence=self.low, new_track_confidence=self.new,
            fuse_score=self.fuse, lost_buffer_s=self.buffer / RATE, match_distance=0.8, **PUBLISHED,
            **({"second_association": self.byte} if self.name == "ocsort" else {}),
        )  # fmt: skip
        return build_tracker(config, RATE)


def assert_parity(stream: Sequence[Detections], peer: Peer) -> None:
    """The same rows, boxes and scores in each frame, and the same division into tracks."""
    expected, ours = peer.build(), peer.ours()
    theirs, mine = [], []
    for index, detections in enumerate(stream):
        table = np.concatenate(
            [detections.boxes, detections.scores[:, None], detections.classes[:, None].astype(np.float32)], axis=1
        )
        rows = expected.update(Boxes(table, (1080, 1920))).reshape(-1, 8)
        theirs.append(np.insert(rows[np.argsort(rows[:, 7])], 0, index, axis=1))
        tracks = ours.update(detections, index / RATE)
        columns = (tracks.boxes, tracks.ids, tracks.scores, tracks.classes, tracks.detections)
        rows = np.column_stack(columns)
        mine.append(np.insert(rows[np.argsort(rows[:, 7])], 0, index, axis=1))
    left, right = np.concatenate(mine), np.concatenate(theirs)
    np.testing.assert_array_equal(left[:, [0, 6, 7, 8]], right[:, [0, 6, 7, 8]])  # frame, score, class, detection
    np.testing.assert_allclose(left[:, 1:5], right[:, 1:5], atol=1e-3, rtol=0)
    pairs = np.unique(np.stack([left[:, 5], right[:, 5]]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.skipif(real_data() is None, reason=NO_DATA)
@pytest.mark.parametrize(
    ("thresholds", "fuse"),
    [
        (THRESHOLDS[0], True),
        (THRESHOLDS[1], False),
        pytest.param(THRESHOLDS[0], False, marks=pytest.mark.slow),
        pytest.param(THRESHOLDS[1], True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("path", real_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_parity_on_real_detections(path: Path, thresholds: tuple[float, float, float], fuse: bool) -> None:
    assert_parity(read_detections(path), Peer("bytetrack", *thresholds, fuse))


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("thresholds", [*THRESHOLDS, (0.5, 0.3, 0.5)])
@pytest.mark.parametrize("people", [2, 15, 60])
@pytest.mark.parametrize("seed", [0, 1])
def test_parity_on_random_streams(seed: int, people: int, thresholds: tuple[float, float, float], fuse: bool) -> None:
    assert_parity(crowd_stream(people, 150, seed, HARD), Peer("bytetrack", *thresholds, fuse))


@pytest.mark.parametrize("buffer", [0, 1, 5])
def test_parity_with_short_buffers(buffer: int) -> None:
    assert_parity(crowd_stream(20, 300, 3, HARD), Peer("bytetrack", *THRESHOLDS[0], True, buffer))


@pytest.mark.parametrize("gap", [29, 30, 31, 32, 33, 34])
def test_parity_of_the_last_frame_in_which_a_lost_track_is_found(gap: int) -> None:
    # Lost again afterwards: the reference drops a track at once that had outlived its buffer before.
    stream = [person(100)] * 5 + [Detections.empty()] * (gap - 1) + [person(100)] * 3
    assert_parity([*stream, Detections.empty(), *[person(100)] * 3], Peer("bytetrack", *THRESHOLDS[1], True))


def test_parity_with_a_late_start() -> None:
    assert_parity([Detections.empty(), *crowd_stream(10, 30, 5)], Peer("bytetrack", *THRESHOLDS[1], True))


OTHERS = [
    ("botsort", False), ("ocsort", False), ("ocsort", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "byte"), OTHERS)
@pytest.mark.parametrize("fuse", [True, False])
def test_parity_of_other_trackers_on_a_random_stream(name: str, byte: bool, fuse: bool) -> None:
    stream = [replace(detections, boxes=detections.boxes + 1000) for detections in crowd_stream(20, 120, 0, HARD)]
    assert_parity(stream, Peer(name, *THRESHOLDS[1], fuse=fuse, byte=byte))


@pytest.mark.skipif(real_data() is None, reason=NO_DATA)
@pytest.mark.parametrize(("name", "byte"), OTHERS)
@pytest.mark.parametrize("path", real_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_parity_of_other_trackers_on_real_detections(path: Path, name: str, byte: bool) -> None:
    assert_parity(read_detections(path), Peer(name, *THRESHOLDS[1], fuse=name == "botsort", byte=byte))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    people=st.integers(1, 30),
    thresholds=st.sampled_from([*THRESHOLDS, (0.5, 0.3, 0.5)]),
    fuse=st.booleans(),
    buffer=st.sampled_from([1, 8, 30]),
)
@pytest.mark.parametrize(("name", "byte"), [("bytetrack", False), *OTHERS])
def test_parity_on_any_stream(
    name: str, byte: bool, seed: int, people: int, thresholds: tuple[float, float, float], fuse: bool, buffer: int
) -> None:
    stream = [replace(detections, boxes=detections.boxes + 1000) for detections in crowd_stream(people, 60, seed, HARD)]
    assert_parity(stream, Peer(name, *thresholds, fuse, buffer, byte))

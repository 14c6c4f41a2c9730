from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from experiment_data import OFF, PUBLISHED

from motserve.config import ByteTrackConfig, load_config
from motserve.lab.benchmark.peers import Contender, Own, Ultralytics, available_peers, equal_thresholds, registry
from motserve.lab.benchmark.streams import StreamSettings, crowd_stream
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.experiments.detections import DetectedVideo, read_detections
from motserve.lab.experiments.tracking import track_detections, track_with
from motserve.tracking import build_tracker
from motserve.types import SOME_DETECTION, Detections, Tracks

RATE_HZ = 30.0
PEERS = available_peers()
Make = Callable[[float | None], Contender]


def crowd(seed: int, frames: int = 60) -> list[Detections]:
    """A crowd with some misses, and two frames without detections."""
    stream = crowd_stream(8, frames, seed, StreamSettings(missed=0.1))
    stream[0] = stream[20] = Detections.empty()
    return stream


def tracks_of(contender: Contender, stream: list[Detections]) -> list[Tracks]:
    return [contender.read(contender.prepare(detections, k / RATE_HZ)()) for k, detections in enumerate(stream)]


def _iou(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = sides.clip(0).prod(axis=1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared)


def rows(tracks: list[Tracks]) -> list[tuple[object, ...]]:
    return [(frame.ids.tolist(), frame.boxes.tolist(), frame.detections.tolist()) for frame in tracks]


@pytest.fixture(params=PEERS)
def make(request: pytest.FixtureRequest) -> Make:
    """Each installed peer with its default settings."""
    return PEERS[request.param]


def test_ultralytics_is_always_available_and_other_peers_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    always = [f"ultralytics-{name}" for name in ("bytetrack", "botsort", "ocsort", "fasttrack")]
    assert list(available_peers()) == always
    for library, names in {
        "trackers": ["roboflow-sort", "roboflow-bytetrack", "roboflow-botsort", "roboflow-ocsort", "roboflow-cbiou"],
        "boxmot": ["boxmot-bytetrack", "boxmot-botsort", "boxmot-ocsort", "boxmot-boosttrack", "boxmot-sfsort"],
        "pyxtrackers": ["pyxtrackers-sort", "pyxtrackers-bytetrack", "pyxtrackers-ocsort"],
        "edgefirst": ["edgefirst-bytetrack"],
    }.items():
        monkeypatch.setattr(
            registry, "find_spec", lambda name, installed=library: object() if name == installed else None
        )
        assert list(available_peers()) == [*always, *names]


def test_listing_the_peers_imports_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("trackers", "supervision", "ultralytics", "boxmot", "pyxtrackers", "edgefirst"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(registry, "find_spec", lambda _: object())
    assert len(available_peers()) == 18


def test_ids_are_unique_in_a_frame_and_rows_point_to_their_detections(make: Make) -> None:
    stream = crowd(seed=1)
    results = tracks_of(make(RATE_HZ), stream)
    assert len(results[0]) == len(results[20]) == 0
    for detections, tracks in zip(stream, results, strict=True):
        assert (tracks.ids.dtype, tracks.classes.dtype, tracks.detections.dtype) == (np.int64,) * 3
        assert (tracks.boxes.dtype, tracks.scores.dtype) == (np.float32,) * 2
        assert tracks.boxes.shape == (len(tracks), 4)
        assert (tracks.ids >= 1).all()
        assert len(set(tracks.ids.tolist())) == len(tracks)
        if (tracks.detections == SOME_DETECTION).all():  # it returns no detection rows
            continue
        assert len(set(tracks.detections.tolist())) == len(tracks)
        np.testing.assert_array_equal(tracks.scores, detections.scores[tracks.detections])
        np.testing.assert_array_equal(tracks.classes, detections.classes[tracks.detections])
        # a filter may smooth a box or lag behind it, but not move it far
        assert (_iou(tracks.boxes, detections.boxes[tracks.detections]) > 0.5).all()
    assert sum(map(len, results)) > 200
    assert len({identity for tracks in results for identity in tracks.ids.tolist()}) < 20


def test_two_videos_share_neither_ids_nor_state(make: Make) -> None:
    first, second = crowd(seed=1), crowd(seed=2)
    alone = rows(tracks_of(make(RATE_HZ), second))
    before = tracks_of(make(RATE_HZ), first)
    assert rows(tracks_of(make(RATE_HZ), second)) == alone

    # the same when both videos are tracked at the same time
    one, other = make(RATE_HZ), None
    results: tuple[list[Tracks], list[Tracks]] = [], []
    for index, detections in enumerate(first):
        results[0].append(one.read(one.prepare(detections, index / RATE_HZ)()))
        if index >= 5:
            other = other or make(RATE_HZ)
            late = index - 5
            results[1].append(other.read(other.prepare(second[late], late / RATE_HZ)()))
    assert rows(results[0]) == rows(before)
    assert rows(results[1]) == alone[: len(results[1])]


def test_detections_are_not_modified(make: Make) -> None:
    stream, untouched = crowd(seed=3, frames=30), crowd(seed=3, frames=30)
    for detections in stream:
        for array in (detections.boxes, detections.scores, detections.classes):
            array.flags.writeable = False
    tracks_of(make(RATE_HZ), stream)
    for detections, expected in zip(stream, untouched, strict=True):
        np.testing.assert_array_equal(detections.boxes, expected.boxes)
        np.testing.assert_array_equal(detections.scores, expected.scores)


@pytest.mark.parametrize("rate_hz", [None, 7.0, 29.97])
def test_any_frame_rate_is_accepted(make: Make, rate_hz: float | None) -> None:
    assert sum(map(len, tracks_of(make(rate_hz), crowd(seed=1, frames=30)))) > 50


def test_a_video_without_detections_has_no_tracks(make: Make) -> None:
    assert [len(tracks) for tracks in tracks_of(make(RATE_HZ), [Detections.empty()] * 5)] == [0] * 5


def test_rows_of_detections_refer_to_the_input(make: Make) -> None:
    """Rows are those of the input, not of what the tracker sorted or filtered."""
    boxes = np.array([[300, 10, 340, 110], [100, 10, 140, 110], [500, 10, 540, 110], [700, 10, 740, 110]], np.float32)
    scores = np.array([0.02, 0.97, 0.8, 0.99], np.float32)
    contender = make(RATE_HZ)
    for k in range(12):
        order = np.roll(np.arange(4), k)
        detections = Detections(boxes[order], scores[order], np.zeros(4, np.int64))
        tracks = contender.read(contender.prepare(detections, k / RATE_HZ)())
        if (tracks.detections == SOME_DETECTION).any():
            pytest.skip("it does not return the detection of a track")
        np.testing.assert_allclose(tracks.boxes, boxes[order][tracks.detections], atol=2)
    assert sorted(order[tracks.detections].tolist()) == [1, 2, 3]


def test_the_step_alone_advances_the_tracker(make: Make) -> None:
    """`prepare` does not advance the tracker, and `read` can be called twice."""
    stream = crowd(seed=1, frames=25)
    expected = rows(tracks_of(make(RATE_HZ), stream))
    contender = make(RATE_HZ)
    results = []
    for k, detections in enumerate(stream):
        contender.prepare(crowd_stream(3, 1, seed=9)[0], k / RATE_HZ)
        answer = contender.prepare(detections, k / RATE_HZ)()
        contender.read(answer)
        results.append(contender.read(answer))
    assert rows(results) == expected


def test_an_own_tracker_has_the_same_tracks_as_a_contender() -> None:
    stream = crowd(seed=1)
    tracker = build_tracker(ByteTrackConfig(), RATE_HZ)
    expected = [tracker.update(detections, k / RATE_HZ) for k, detections in enumerate(stream)]
    assert rows(tracks_of(Own(build_tracker(ByteTrackConfig(), RATE_HZ)), stream)) == rows(expected)


# --- the same thresholds ----------------------------------------------------------------------------------------------


def test_thresholds_are_converted_to_those_of_ultralytics() -> None:
    config = ByteTrackConfig(
        high_confidence=0.5, low_confidence=0.2, new_track_confidence=0.65, match_distance=0.75, fuse_score=False
    )
    assert equal_thresholds(config, 14) == {
        "track_high_thresh": 0.5,
        "track_low_thresh": 0.2,
        "new_track_thresh": 0.65,
        "track_buffer": 28,
        "match_thresh": 0.75,
        "fuse_score": False,
    }


def test_changed_settings_are_passed_to_ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.trackers import track

    received: list[SimpleNamespace] = []

    class Spy:
        def __init__(self, settings: Any) -> None:
            received.append(settings)

    monkeypatch.setitem(track.TRACKER_MAP, "botsort", Spy)
    Ultralytics("botsort")
    Ultralytics("botsort", track_buffer=7)
    assert [settings.gmc_method for settings in received] == ["none", "none"]
    assert received[1].track_buffer == 7 != received[0].track_buffer
    assert received[0].with_reid is False


@pytest.mark.parametrize("name", ["TUD-Campus", "PETS09-S2L1", "MOT17-09"])
def test_ultralytics_bytetrack_with_equal_thresholds_gives_motserves_own_tracks(data_dir: Path, name: str) -> None:
    config = load_config([OFF, PUBLISHED])
    (truth,) = find_truth(data_dir / "mot" / name).values()
    detections = read_detections(data_dir / "dets" / "yolov8n_640" / f"{name}.txt", truth, config)
    own = track_detections(detections, config)
    assert isinstance(config.tracker, ByteTrackConfig)
    theirs = track_with(detections, _equal(detections, config.tracker))
    assert sum(len(frame.tracks) for frame in own.frames) > 200
    for one, other in zip(own.frames, theirs.frames, strict=True):
        order = np.argsort(other.tracks.ids)
        np.testing.assert_array_equal(one.tracks.ids, other.tracks.ids[order])
        np.testing.assert_array_equal(one.tracks.detections, other.tracks.detections[order])
        np.testing.assert_array_equal(one.tracks.scores, other.tracks.scores[order])
        np.testing.assert_allclose(one.tracks.boxes, other.tracks.boxes[order], atol=1e-3)


def _equal(detections: DetectedVideo, config: ByteTrackConfig) -> Ultralytics:
    assert detections.rate_hz is not None
    return Ultralytics("bytetrack", **equal_thresholds(config, detections.rate_hz))


@pytest.mark.skipif(find_spec("trackers") is None, reason="the extra `bench` is not installed")
def test_roboflow_estimates_no_camera_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would require pictures, which no contender gets."""
    import trackers

    received: list[dict[str, Any]] = []
    monkeypatch.setattr(trackers, "BoTSORTTracker", lambda **settings: received.append(settings))
    PEERS["roboflow-botsort"](RATE_HZ)
    assert received == [{"frame_rate": RATE_HZ, "enable_cmc": False}]


@pytest.mark.skipif(find_spec("trackers") is None, reason="the extra `bench` is not installed")
def test_roboflow_gets_the_frame_rate() -> None:
    """A gap of 20 frames is longer than the lost buffer at 10 Hz, but not at 60 Hz."""
    person = Detections(np.array([[10, 10, 50, 110]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64))
    stream = [person] * 5 + [Detections.empty()] * 20 + [person] * 5
    ids = {}
    for rate in (10.0, 60.0):
        results = tracks_of(PEERS["roboflow-bytetrack"](rate), stream)
        ids[rate] = {identity for tracks in results for identity in tracks.ids.tolist()}
    assert (len(ids[10.0]), len(ids[60.0])) == (2, 1)

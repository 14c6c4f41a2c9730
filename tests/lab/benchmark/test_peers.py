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
    """People who are missed now and then, and no person in two frames."""
    stream = crowd_stream(8, frames, seed, StreamSettings(missed=0.1))
    stream[0] = stream[20] = Detections.empty()
    return stream


def tracks_of(contender: Contender, stream: list[Detections]) -> list[Tracks]:
    return [contender.read(contender.prepare(seen, k / RATE_HZ)()) for k, seen in enumerate(stream)]


def _iou(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = sides.clip(0).prod(axis=1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared)


def rows(tracks: list[Tracks]) -> list[tuple[object, ...]]:
    return [(frame.ids.tolist(), frame.boxes.tolist(), frame.detections.tolist()) for frame in tracks]


@pytest.fixture(params=PEERS)
def make(request: pytest.FixtureRequest) -> Make:
    """Each peer that is installed, as it ships."""
    return PEERS[request.param]


def test_ultralytics_is_always_there_and_others_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    always = [f"ultralytics-{name}" for name in ("bytetrack", "botsort", "ocsort", "fasttrack")]
    assert list(available_peers()) == always
    for library, names in {
        "trackers": ["roboflow-sort", "roboflow-bytetrack", "roboflow-botsort", "roboflow-ocsort", "roboflow-cbiou"],
        "boxmot": ["boxmot-bytetrack", "boxmot-botsort", "boxmot-ocsort", "boxmot-boosttrack", "boxmot-sfsort"],
        "pyxtrackers": ["pyxtrackers-sort", "pyxtrackers-bytetrack", "pyxtrackers-ocsort"],
        "edgefirst": ["edgefirst-bytetrack"],
    }.items():
        monkeypatch.setattr(registry, "find_spec", lambda asked, there=library: object() if asked == there else None)
        assert list(available_peers()) == [*always, *names]


def test_listing_the_peers_imports_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("trackers", "supervision", "ultralytics", "boxmot", "pyxtrackers", "edgefirst"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(registry, "find_spec", lambda _: object())
    assert len(available_peers()) == 18


def test_ids_are_unique_in_a_frame_and_rows_point_to_their_detections(make: Make) -> None:
    stream = crowd(seed=1)
    found = tracks_of(make(RATE_HZ), stream)
    assert len(found[0]) == len(found[20]) == 0
    for seen, tracks in zip(stream, found, strict=True):
        assert (tracks.ids.dtype, tracks.classes.dtype, tracks.detections.dtype) == (np.int64,) * 3
        assert (tracks.boxes.dtype, tracks.scores.dtype) == (np.float32,) * 2
        assert tracks.boxes.shape == (len(tracks), 4)
        assert (tracks.ids >= 1).all()
        assert len(set(tracks.ids.tolist())) == len(tracks)
        if (tracks.detections == SOME_DETECTION).all():  # it does not say
            continue
        assert len(set(tracks.detections.tolist())) == len(tracks)
        np.testing.assert_array_equal(tracks.scores, seen.scores[tracks.detections])
        np.testing.assert_array_equal(tracks.classes, seen.classes[tracks.detections])
        # a filter may smooth a box, or lag behind it, but not take it somewhere else
        assert (_iou(tracks.boxes, seen.boxes[tracks.detections]) > 0.5).all()
    assert sum(map(len, found)) > 200
    assert len({identity for tracks in found for identity in tracks.ids.tolist()}) < 20


def test_two_videos_share_neither_ids_nor_state(make: Make) -> None:
    first, second = crowd(seed=1), crowd(seed=2)
    alone = rows(tracks_of(make(RATE_HZ), second))
    before = tracks_of(make(RATE_HZ), first)
    assert rows(tracks_of(make(RATE_HZ), second)) == alone

    # the same with both at the same time
    one, other = make(RATE_HZ), None
    found: tuple[list[Tracks], list[Tracks]] = [], []
    for index, seen in enumerate(first):
        found[0].append(one.read(one.prepare(seen, index / RATE_HZ)()))
        if index >= 5:
            other = other or make(RATE_HZ)
            late = index - 5
            found[1].append(other.read(other.prepare(second[late], late / RATE_HZ)()))
    assert rows(found[0]) == rows(before)
    assert rows(found[1]) == alone[: len(found[1])]


def test_what_was_seen_is_left_as_it_was(make: Make) -> None:
    stream, untouched = crowd(seed=3, frames=30), crowd(seed=3, frames=30)
    for seen in stream:
        for array in (seen.boxes, seen.scores, seen.classes):
            array.flags.writeable = False
    tracks_of(make(RATE_HZ), stream)
    for seen, expected in zip(stream, untouched, strict=True):
        np.testing.assert_array_equal(seen.boxes, expected.boxes)
        np.testing.assert_array_equal(seen.scores, expected.scores)


@pytest.mark.parametrize("rate_hz", [None, 7.0, 29.97])
def test_any_frame_rate_will_do(make: Make, rate_hz: float | None) -> None:
    assert sum(map(len, tracks_of(make(rate_hz), crowd(seed=1, frames=30)))) > 50


def test_a_video_without_detections_has_no_tracks(make: Make) -> None:
    assert [len(tracks) for tracks in tracks_of(make(RATE_HZ), [Detections.empty()] * 5)] == [0] * 5


def test_the_order_of_the_detections_is_not_lost(make: Make) -> None:
    """Rows count in what was given, not in what the tracker sorted or filtered."""
    places = np.array([[300, 10, 340, 110], [100, 10, 140, 110], [500, 10, 540, 110], [700, 10, 740, 110]], np.float32)
    scores = np.array([0.02, 0.97, 0.8, 0.99], np.float32)
    contender = make(RATE_HZ)
    for k in range(12):
        order = np.roll(np.arange(4), k)
        seen = Detections(places[order], scores[order], np.zeros(4, np.int64))
        tracks = contender.read(contender.prepare(seen, k / RATE_HZ)())
        if (tracks.detections == SOME_DETECTION).any():
            pytest.skip("it does not say which detection a track stands on")
        np.testing.assert_allclose(tracks.boxes, places[order][tracks.detections], atol=2)
    assert sorted(order[tracks.detections].tolist()) == [1, 2, 3]


def test_the_clock_can_be_put_around_the_tracker_alone(make: Make) -> None:
    """`prepare` does not advance, the step does, and `read` can be asked again."""
    stream = crowd(seed=1, frames=25)
    expected = rows(tracks_of(make(RATE_HZ), stream))
    contender = make(RATE_HZ)
    found = []
    for k, seen in enumerate(stream):
        contender.prepare(crowd_stream(3, 1, seed=9)[0], k / RATE_HZ)
        answer = contender.prepare(seen, k / RATE_HZ)()
        contender.read(answer)
        found.append(contender.read(answer))
    assert rows(found) == expected


def test_motserves_own_tracker_is_a_contender_as_it_is() -> None:
    stream = crowd(seed=1)
    tracker = build_tracker(ByteTrackConfig(), RATE_HZ)
    expected = [tracker.update(seen, k / RATE_HZ) for k, seen in enumerate(stream)]
    assert rows(tracks_of(Own(build_tracker(ByteTrackConfig(), RATE_HZ)), stream)) == rows(expected)


# --- the same thresholds ----------------------------------------------------------------------------------------------


def test_thresholds_are_translated() -> None:
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


def test_settings_that_differ_reach_ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.trackers import track

    given: list[SimpleNamespace] = []

    class Spy:
        def __init__(self, settings: Any) -> None:
            given.append(settings)

    monkeypatch.setitem(track.TRACKER_MAP, "botsort", Spy)
    Ultralytics("botsort")
    Ultralytics("botsort", track_buffer=7)
    assert [settings.gmc_method for settings in given] == ["none", "none"]
    assert given[1].track_buffer == 7 != given[0].track_buffer
    assert given[0].with_reid is False


@pytest.mark.parametrize("name", ["TUD-Campus", "PETS09-S2L1", "MOT17-09"])
def test_ultralytics_bytetrack_with_equal_thresholds_gives_motserves_own_tracks(data_dir: Path, name: str) -> None:
    config = load_config([OFF, PUBLISHED])
    (truth,) = find_truth(data_dir / "mot" / name).values()
    seen = read_detections(data_dir / "dets" / "yolov8n_640" / f"{name}.txt", truth, config)
    own = track_detections(seen, config)
    assert isinstance(config.tracker, ByteTrackConfig)
    theirs = track_with(seen, _equal(seen, config.tracker))
    assert sum(len(frame.tracks) for frame in own.frames) > 200
    for one, other in zip(own.frames, theirs.frames, strict=True):
        order = np.argsort(other.tracks.ids)
        np.testing.assert_array_equal(one.tracks.ids, other.tracks.ids[order])
        np.testing.assert_array_equal(one.tracks.detections, other.tracks.detections[order])
        np.testing.assert_array_equal(one.tracks.scores, other.tracks.scores[order])
        np.testing.assert_allclose(one.tracks.boxes, other.tracks.boxes[order], atol=1e-3)


def _equal(seen: DetectedVideo, config: ByteTrackConfig) -> Ultralytics:
    assert seen.rate_hz is not None
    return Ultralytics("bytetrack", **equal_thresholds(config, seen.rate_hz))


@pytest.mark.skipif(find_spec("trackers") is None, reason="the extra `bench` is not installed")
def test_roboflow_estimates_no_camera_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would require pictures, which no other contender gets."""
    import trackers

    given: list[dict[str, Any]] = []
    monkeypatch.setattr(trackers, "BoTSORTTracker", lambda **settings: given.append(settings))
    PEERS["roboflow-botsort"](RATE_HZ)
    assert given == [{"frame_rate": RATE_HZ, "enable_cmc": False}]


@pytest.mark.skipif(find_spec("trackers") is None, reason="the extra `bench` is not installed")
def test_roboflow_gets_the_frame_rate() -> None:
    """A track that was lost for two seconds: longer than its buffer of one at 10 Hz, not at 60 Hz."""
    person = Detections(np.array([[10, 10, 50, 110]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64))
    stream = [person] * 5 + [Detections.empty()] * 20 + [person] * 5
    ids = {}
    for rate in (10.0, 60.0):
        found = tracks_of(PEERS["roboflow-bytetrack"](rate), stream)
        ids[rate] = {identity for tracks in found for identity in tracks.ids.tolist()}
    assert (len(ids[10.0]), len(ids[60.0])) == (2, 1)

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ultralytics.engine.results import Boxes
from ultralytics.trackers.byte_tracker import BYTETracker

from motserve.base import TrackerBase
from motserve.benchmark.streams import StreamSettings, crowd_stream
from motserve.config import KalmanConfig, TrackerConfig, load_config
from motserve.tracking import ByteTrack, build_tracker
from motserve.types import Detections, Tracks

ROOT = Path(__file__).parents[1]
RATE = 30
THRESHOLDS = [(0.25, 0.1, 0.25), (0.6, 0.1, 0.7)]
# Frequent misses and dips of the score, so that tracks are lost, found again, expire and run into each other.
HARD = StreamSettings(width=800, height=600, speed=8, missed=0.3, unsure=0.3, false_alarms=0.3)


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


def follow(tracker: TrackerBase, stream: Sequence[Detections], rate: float = RATE, start: int = 0) -> list[Tracks]:
    return [tracker.update(seen, (start + index) / rate) for index, seen in enumerate(stream)]


def assert_same(left: Sequence[Tracks], right: Sequence[Tracks]) -> None:
    for a, b in zip(left, right, strict=True):
        for name in ("ids", "boxes", "scores", "classes", "detections"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def reference(high: float, low: float, new: float, fuse: bool, buffer: int = RATE) -> BYTETracker:
    return BYTETracker(
        SimpleNamespace(
            track_high_thresh=high,
            track_low_thresh=low,
            new_track_thresh=new,
            track_buffer=buffer,
            match_thresh=0.8,
            fuse_score=fuse,
        )
    )


def assert_parity(
    stream: Sequence[Detections], thresholds: tuple[float, float, float], fuse: bool, buffer: int = RATE
) -> None:
    """The same rows, boxes and scores in each frame, and the same division into tracks, as Ultralytics' tracker."""
    high, low, new = thresholds
    config = TrackerConfig(
        high_confidence=high,
        low_confidence=low,
        new_track_confidence=new,
        fuse_score=fuse,
        lost_buffer_s=buffer / RATE,
    )
    expected, ours = reference(*thresholds, fuse, buffer), ByteTrack(config)
    theirs, mine = [], []
    for index, seen in enumerate(stream):
        table = np.concatenate([seen.boxes, seen.scores[:, None], seen.classes[:, None].astype(np.float32)], axis=1)
        rows = expected.update(Boxes(table, (1080, 1920))).reshape(-1, 8)
        theirs.append(np.insert(rows[np.argsort(rows[:, 7])], 0, index, axis=1))
        tracks = ours.update(seen, index / RATE)
        columns = (tracks.boxes, tracks.ids, tracks.scores, tracks.classes, tracks.detections)
        rows = np.column_stack(columns)
        mine.append(np.insert(rows[np.argsort(rows[:, 7])], 0, index, axis=1))
    left, right = np.concatenate(mine), np.concatenate(theirs)
    assert len(right)
    np.testing.assert_array_equal(left[:, [0, 6, 7, 8]], right[:, [0, 6, 7, 8]])  # frame, score, class, detection
    np.testing.assert_allclose(left[:, 1:5], right[:, 1:5], atol=1e-3, rtol=0)
    pairs = np.unique(np.stack([left[:, 5], right[:, 5]]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.skipif(not real_files(), reason="needs the detections in $MOTSERVE_DATA/dets")
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
    assert_parity(read_detections(path), thresholds, fuse)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("thresholds", [*THRESHOLDS, (0.5, 0.3, 0.5)])
@pytest.mark.parametrize("people", [2, 15, 60])
@pytest.mark.parametrize("seed", [0, 1])
def test_parity_on_random_streams(seed: int, people: int, thresholds: tuple[float, float, float], fuse: bool) -> None:
    assert_parity(crowd_stream(people, 150, seed, HARD), thresholds, fuse)


@pytest.mark.parametrize("buffer", [0, 1, 5])
def test_parity_with_short_buffers(buffer: int) -> None:
    assert_parity(crowd_stream(20, 300, 3, HARD), THRESHOLDS[0], True, buffer)


@pytest.mark.parametrize("gap", [29, 30, 31, 32, 33, 34])
def test_parity_of_the_last_frame_in_which_a_lost_track_is_found(gap: int) -> None:
    # Lost again afterwards: the reference drops a track at once that had outlived its buffer before.
    stream = [person(100)] * 5 + [Detections.empty()] * (gap - 1) + [person(100)] * 3
    assert_parity([*stream, Detections.empty(), *[person(100)] * 3], THRESHOLDS[1], True)


def test_parity_with_a_late_start() -> None:
    assert_parity([Detections.empty(), *crowd_stream(10, 30, 5)], THRESHOLDS[1], True)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(0, 12), extent=st.sampled_from([150, 400]))
def test_ids_are_unique_and_never_reused(seed: int, people: int, extent: int) -> None:
    stream = crowd_stream(people, 80, seed, StreamSettings(extent, extent, missed=0.4, unsure=0.3, false_alarms=0.5))
    last_seen: dict[int, int] = {}
    for index, tracks in enumerate(follow(ByteTrack(TrackerConfig(lost_buffer_s=0.2)), stream)):
        ids = tracks.ids.tolist()
        assert ids == sorted(set(ids))
        assert all(identity >= 1 for identity in ids)
        for identity in ids:
            # A lost track lives for the buffer of 6 frames and 2 more; after that its ID is gone for good.
            assert index - last_seen.get(identity, index) <= 8
            last_seen[identity] = index
        assert len(set(tracks.detections.tolist())) == len(tracks)
        np.testing.assert_array_equal(tracks.scores, stream[index].scores[tracks.detections])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 15), rounded=st.booleans())
def test_the_order_of_detections_does_not_matter(seed: int, people: int, rounded: bool) -> None:
    random = np.random.default_rng(seed)
    one, other = ByteTrack(TrackerConfig()), ByteTrack(TrackerConfig())
    for index, seen in enumerate(crowd_stream(people, 40, seed, HARD)):
        if rounded:  # coarse values make equal scores and equal boxes
            corner = (seen.boxes[:, :2] / 50).round() * 50
            seen = make(np.concatenate([corner, corner + 100], axis=1), seen.scores.round(1))
        order = random.permutation(len(seen))
        shuffled = Detections(seen.boxes[order], seen.scores[order], seen.classes[order])
        a, b = one.update(seen, index / RATE), other.update(shuffled, index / RATE)
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(seen.boxes[a.detections], shuffled.boxes[b.detections])


def test_interleaved_sessions_equal_sessions_alone() -> None:
    streams = [crowd_stream(20, 100, seed, HARD) for seed in (1, 2)]
    trackers = [ByteTrack(TrackerConfig()), ByteTrack(TrackerConfig())]
    together: list[list[Tracks]] = [[], []]
    for index, pair in enumerate(zip(*streams, strict=True)):
        for session, seen in enumerate(pair):
            together[session].append(trackers[session].update(seen, index / RATE))
    for session, stream in enumerate(streams):
        assert_same(together[session], follow(ByteTrack(TrackerConfig()), stream))


@pytest.mark.parametrize("cut", [0, 1, 2, 37, 80])
def test_a_restored_state_has_the_same_future(cut: int) -> None:
    stream = crowd_stream(20, 80, 4, HARD)
    original = ByteTrack(TrackerConfig())
    follow(original, stream[:cut])
    state = original.state_dict()
    future = follow(original, stream[cut:], start=cut)
    restored = ByteTrack(TrackerConfig())
    follow(restored, crowd_stream(5, 10, 9))
    restored.load_state_dict(state)
    assert_same(follow(restored, stream[cut:], start=cut), future)


def test_a_saved_state_shares_no_memory() -> None:
    tracker = ByteTrack(TrackerConfig())
    follow(tracker, [person(100)] * 3)
    state = tracker.state_dict()
    before = {name: value.copy() for name, value in state.items()}
    other = ByteTrack(TrackerConfig())
    other.load_state_dict(state)
    follow(tracker, [person(110)], start=3)
    follow(other, [person(120)], start=3)
    for name, value in state.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", None),
        ("timestamp", None),
        ("motion", np.zeros((13, 1))),
        ("lost", np.zeros(1)),
        ("confirmed", np.array(2)),
        ("seen", np.zeros((2, 3))),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(name: str, value: NDArray[np.float64] | None) -> None:
    tracker = ByteTrack(TrackerConfig())
    follow(tracker, [person(100)] * 3)
    state = tracker.state_dict()
    broken = {key: array for key, array in state.items() if key != name}
    if value is not None:
        broken[name] = value
    with pytest.raises(ValueError, match=name):
        tracker.load_state_dict(broken)
    assert tracker.update(person(100), 3 / RATE).ids.tolist() == [1]


@pytest.mark.parametrize(
    ("box", "score", "message"),
    [
        ([0, 0, 10, 10], np.nan, "detection 1 has score nan"),
        ([0, 0, 10, 10], 1.01, "detection 1 has score 1.01"),
        ([0, 0, 10, 10], -0.01, "detection 1 has score -0.01"),
        ([0, np.nan, 10, 10], 0.9, "detection 1 .* not finite"),
        ([0, 0, np.inf, 10], 0.9, "detection 1 .* not finite"),
        ([10, 0, 0, 10], 0.9, "detection 1 .* no area"),
        ([0, 10, 10, 0], 0.2, "detection 1 .* no area"),
        ([5, 0, 5, 10], 0.9, "detection 1 .* no area"),
        ([0, 0, 1e30, 10], 0.9, "detection 1 .* beyond"),
    ],
)
def test_bad_detections_are_refused_and_change_nothing(box: list[float], score: float, message: str) -> None:
    tracker = ByteTrack(TrackerConfig())
    follow(tracker, [person(100)] * 3)
    before = tracker.state_dict()
    with pytest.raises(ValueError, match=message):
        tracker.update(make([[100, 100, 140, 200], box], [0.9, score]), 3 / RATE)
    for name, value in tracker.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_boxes_below_the_lower_threshold_are_not_looked_at() -> None:
    tracker = ByteTrack(TrackerConfig())
    tracks = tracker.update(make([[np.nan] * 4, [100, 100, 140, 200]], [0.05, 0.9]), 0.0)
    assert tracks.detections.tolist() == [1]


@pytest.mark.parametrize("timestamp", [2 / RATE, 1 / RATE, -1.0, np.nan, np.inf])
def test_time_must_increase(timestamp: float) -> None:
    tracker = ByteTrack(TrackerConfig())
    follow(tracker, [person(100)] * 3)
    with pytest.raises(ValueError, match="timestamp"):
        tracker.update(person(100), timestamp)
    assert tracker.update(person(100), 3 / RATE).ids.tolist() == [1]


@pytest.mark.parametrize("rate", [7.0, 25.0, 30.0, 60.0, 1000 / 33])
def test_the_lost_buffer_is_in_seconds(rate: float) -> None:
    config = TrackerConfig(lost_buffer_s=1.0)
    for pause, expected in ((0.9, [1]), (1.0 + 4 / rate, [2])):
        tracker = ByteTrack(config)
        frames = round(pause * rate)
        follow(tracker, [person(100)] * 5, rate)
        follow(tracker, [Detections.empty()] * frames, rate, start=5)
        answers = follow(tracker, [person(100)] * 2, rate, start=5 + frames)
        assert answers[-1].ids.tolist() == expected


@pytest.mark.parametrize("skipped", [0, 3, 8, 12])
def test_the_prediction_spans_the_real_interval(skipped: int) -> None:
    # 5 pixels a frame: after 8 skipped frames the box has moved by more than its width.
    tracker = ByteTrack(TrackerConfig())
    follow(tracker, [person(5 * index) for index in range(40)])
    frame = 40 + skipped
    tracks = tracker.update(person(5 * frame), frame / RATE)
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracks.boxes[0], person(5 * frame).boxes[0], atol=2)


def test_an_empty_frame_advances_the_tracker() -> None:
    tracker = ByteTrack(TrackerConfig(lost_buffer_s=0.1))
    follow(tracker, [person(100)] * 3)
    assert all(len(tracks) == 0 for tracks in follow(tracker, [Detections.empty()] * 10, start=3))
    assert len(tracker.state_dict()["ids"]) == 0


def test_a_birth_is_confirmed_by_the_next_frame_only() -> None:
    tracker = ByteTrack(TrackerConfig())
    answers = follow(tracker, [Detections.empty(), person(100), Detections.empty(), person(100), person(101)])
    assert [tracks.ids.tolist() for tracks in answers] == [[], [], [], [], [2]]


def test_a_low_score_keeps_a_track_but_starts_none() -> None:
    tracker = ByteTrack(TrackerConfig())
    answers = follow(tracker, [person(100), person(100, 0.2), person(100, 0.1), person(100, 0.2)])
    assert [tracks.ids.tolist() for tracks in answers] == [[1], [1], [], []]


def test_memory_does_not_grow() -> None:
    tracker = ByteTrack(TrackerConfig(high_confidence=0.1, new_track_confidence=0.1))
    random = np.random.default_rng(0)
    for index in range(600):
        corner = random.uniform(0, 1000, (20, 2))
        tracker.update(make(np.concatenate([corner, corner + 50], axis=1), np.full(20, 0.9)), index / RATE)
        assert len(tracker.state_dict()["ids"]) < 250
    assert int(tracker.state_dict()["next_id"]) > 5_000


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.lists(
                st.tuples(
                    *[st.floats(-1e7, 1e7, width=32)] * 2,
                    *[st.floats(0.001953125, 1e6, width=32)] * 2,
                    st.floats(0, 1, width=32),
                ),
                max_size=5,
            ),
            st.floats(1e-3, 1e9),
        ),
        max_size=12,
    )
)
def test_nothing_valid_makes_the_state_less_than_finite(
    frames: list[tuple[list[tuple[float, float, float, float, float]], float]],
) -> None:
    tracker = ByteTrack(TrackerConfig(low_confidence=0, high_confidence=0.1, new_track_confidence=0.1))
    now = 0.0
    for rows, interval in frames:
        now += interval
        values = np.array(rows, np.float32).reshape(-1, 5)
        boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
        solid = (boxes[:, 2:] - boxes[:, :2] >= 1e-3).all(axis=1)
        with np.errstate(all="raise", under="ignore"):
            tracks = tracker.update(make(boxes[solid], values[solid, 4]), now)
        assert np.isfinite(tracks.boxes).all()
        assert np.isfinite(tracker.state_dict()["motion"]).all()


def test_the_configuration_builds_the_tracker() -> None:
    config = load_config([ROOT / "configs" / "tracker" / "bytetrack.yaml"])
    assert config.tracker == TrackerConfig()
    assert isinstance(build_tracker(config.tracker), ByteTrack)


def test_the_reference_rate_is_a_setting() -> None:
    stream = crowd_stream(15, 60, 6, HARD)
    at_thirty = follow(ByteTrack(TrackerConfig(lost_buffer_s=1.0)), stream)
    config = TrackerConfig(kalman=KalmanConfig(reference_rate_hz=10.0), lost_buffer_s=3.0)
    assert_same(follow(ByteTrack(config), stream, rate=10), at_thirty)

from __future__ import annotations

import gc
import resource
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tracker_streams import EVERY, HARD, RATE, assert_same, make, person, track_stream

from motserve.base import TrackerBase
from motserve.config import AppearanceConfig, BotSortConfig, DeepSortConfig, StrongSortConfig, TrackerConfig
from motserve.lab.benchmark.streams import StreamSettings, crowd_stream
from motserve.tracking import build_tracker
from motserve.types import Cues, Detections, Tracks

ALL = pytest.mark.parametrize("name", EVERY)
EAGER = {"confidence": 0.0, "low_confidence": 0.0, "high_confidence": 0.1, "new_track_confidence": 0.1}


def change(config: TrackerConfig, **values: float) -> TrackerConfig:
    """Change those of the values that the tracker's configuration has."""
    known = {key: value for key, value in values.items() if key in type(config).model_fields}
    return type(config)(**{**config.model_dump(), **known})


@ALL
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(0, 12), extent=st.sampled_from([150, 400]))
def test_ids_are_unique_and_never_reused(name: str, seed: int, people: int, extent: int) -> None:
    stream = crowd_stream(people, 80, seed, StreamSettings(extent, extent, missed=0.4, unsure=0.3, false_alarms=0.5))
    tracker = build_tracker(change(EVERY[name], lost_buffer_s=0.2))
    born, gone = set[int](), set[int]()
    for index, detections in enumerate(stream):
        tracks = tracker.update(detections, index / RATE)
        ids = tracks.ids.tolist()
        assert ids == sorted(set(ids))
        assert all(identity >= 1 for identity in ids)
        alive = set(tracker.state_dict()["ids"].tolist())
        assert set(ids) <= alive
        assert not alive & gone
        assert not alive - born or min(alive - born) > max(born, default=0)
        born |= alive
        gone = born - alive
        assert len(set(tracks.detections.tolist())) == len(tracks)
        np.testing.assert_array_equal(tracks.scores, stream[index].scores[tracks.detections])


@ALL
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 15), rounded=st.booleans())
def test_the_order_of_detections_does_not_matter(name: str, seed: int, people: int, rounded: bool) -> None:
    random = np.random.default_rng(seed)
    one, other = build_tracker(EVERY[name]), build_tracker(EVERY[name])
    for index, detections in enumerate(crowd_stream(people, 40, seed, HARD)):
        if rounded:  # coarse values make equal scores and equal boxes
            corner = (detections.boxes[:, :2] / 50).round() * 50
            detections = make(np.concatenate([corner, corner + 100], axis=1), detections.scores.round(1))
        order = random.permutation(len(detections))
        shuffled = Detections(detections.boxes[order], detections.scores[order], detections.classes[order])
        a, b = one.update(detections, index / RATE), other.update(shuffled, index / RATE)
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(detections.boxes[a.detections], shuffled.boxes[b.detections])


@ALL
def test_interleaved_sessions_equal_sessions_alone(name: str) -> None:
    streams = [crowd_stream(20, 100, seed, HARD) for seed in (1, 2)]
    trackers = [build_tracker(EVERY[name]), build_tracker(EVERY[name])]
    together: list[list[Tracks]] = [[], []]
    for index, pair in enumerate(zip(*streams, strict=True)):
        for session, detections in enumerate(pair):
            together[session].append(trackers[session].update(detections, index / RATE))
    for session, stream in enumerate(streams):
        assert_same(together[session], track_stream(build_tracker(EVERY[name]), stream))


@ALL
@pytest.mark.parametrize("cut", [0, 1, 2, 37, 80])
def test_a_restored_state_has_the_same_future(name: str, cut: int) -> None:
    stream = crowd_stream(20, 80, 4, HARD)
    original = build_tracker(EVERY[name])
    track_stream(original, stream[:cut])
    state = original.state_dict()
    future = track_stream(original, stream[cut:], start=cut)
    restored = build_tracker(EVERY[name])
    track_stream(restored, crowd_stream(5, 10, 9))
    restored.load_state_dict(state)
    assert_same(track_stream(restored, stream[cut:], start=cut), future)


@ALL
def test_a_saved_state_shares_no_memory(name: str) -> None:
    tracker = build_tracker(EVERY[name])
    track_stream(tracker, [person(100)] * 3)
    state = tracker.state_dict()
    before = {name: value.copy() for name, value in state.items()}
    other = build_tracker(EVERY[name])
    other.load_state_dict(state)
    track_stream(tracker, [person(110)], start=3)
    track_stream(other, [person(120)], start=3)
    for name, value in state.items():
        np.testing.assert_array_equal(value, before[name])


@ALL
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ids", None),
        ("timestamp", None),
        ("tracker", None),
        ("tracker", np.array("Another")),
        ("motion", np.zeros((13, 1))),
        ("lost", np.zeros(1)),
        ("confirmed", np.array(9)),
        ("matched_at", np.zeros((2, 3))),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(name: str, key: str, value: NDArray[np.float64] | None) -> None:
    tracker = build_tracker(EVERY[name])
    track_stream(tracker, [person(100)] * 3)
    state = tracker.state_dict()
    broken = {other: array for other, array in state.items() if other != key}
    if value is not None:
        broken[key] = value
    with pytest.raises(ValueError, match=key):
        tracker.load_state_dict(broken)
    assert tracker.update(person(100), 3 / RATE).ids.tolist() == [1]


@ALL
@pytest.mark.parametrize(
    ("box", "score", "message"),
    [
        ([0, 0, 10, 10], np.nan, "detection 1 has score nan"),
        ([0, 0, 10, 10], 1.01, "detection 1 has score 1.01"),
        ([0, 0, 10, 10], -0.01, "detection 1 has score -0.01"),
        ([0, np.nan, 10, 10], 0.9, "detection 1 .* not finite"),
        ([0, 0, np.inf, 10], 0.9, "detection 1 .* not finite"),
        ([10, 0, 0, 10], 0.9, "detection 1 .* no area"),
        ([0, 10, 10, 0], 0.7, "detection 1 .* no area"),
        ([5, 0, 5, 10], 0.9, "detection 1 .* no area"),
        ([0, 0, 1e30, 10], 0.9, "detection 1 .* beyond"),
    ],
)
def test_bad_detections_are_refused_and_change_nothing(name: str, box: list[float], score: float, message: str) -> None:
    tracker = build_tracker(EVERY[name])
    track_stream(tracker, [person(100)] * 3)
    before = tracker.state_dict()
    with pytest.raises(ValueError, match=message):
        tracker.update(make([[100, 100, 140, 200], box], [0.9, score]), 3 / RATE)
    for name, value in tracker.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@ALL
def test_boxes_below_the_lower_threshold_are_not_validated(name: str) -> None:
    tracker = build_tracker(EVERY[name])
    answers = track_stream(tracker, [make([[np.nan] * 4, [100, 100, 140, 200]], [0.05, 0.9])] * 3)
    assert answers[-1].detections.tolist() == [1]


@ALL
@pytest.mark.parametrize("timestamp", [2 / RATE, 1 / RATE, -1.0, np.nan, np.inf])
def test_time_must_increase(name: str, timestamp: float) -> None:
    tracker = build_tracker(EVERY[name])
    track_stream(tracker, [person(100)] * 3)
    with pytest.raises(ValueError, match="timestamp"):
        tracker.update(person(100), timestamp)
    assert tracker.update(person(100), 3 / RATE).ids.tolist() == [1]


@ALL
def test_an_empty_frame_advances_the_tracker(name: str) -> None:
    tracker = build_tracker(change(EVERY[name], lost_buffer_s=0.1))
    track_stream(tracker, [person(100)] * 3)
    assert all(len(tracks) == 0 for tracks in track_stream(tracker, [Detections.empty()] * 10, start=3))
    assert len(tracker.state_dict()["ids"]) == 0


@pytest.mark.parametrize("name", [name for name in EVERY if name != "bytetrack"])  # whose steps are tenths of a second
def test_a_frame_is_a_step_of_the_motion_model_at_any_rate(name: str) -> None:
    config = change(EVERY[name], lost_buffer_s=60)
    stream = crowd_stream(15, 60, 6, HARD)
    slow, fast = (track_stream(build_tracker(config, rate), stream, rate) for rate in (10.0, 30.0))
    for one, other in zip(slow, fast, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=1e-5, atol=1e-3)


@ALL
def test_memory_does_not_grow(name: str) -> None:
    tracker = build_tracker(change(EVERY[name], high_confidence=0.1, new_track_confidence=0.1))
    random = np.random.default_rng(0)
    for index in range(600):
        corner = random.uniform(0, 1000, (20, 2))
        tracker.update(make(np.concatenate([corner, corner + 50], axis=1), np.full(20, 0.9)), index / RATE)
        assert len(tracker.state_dict()["ids"]) < 250
    assert int(tracker.state_dict()["next_id"]) > 5_000


@ALL
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
def test_the_state_stays_finite_for_any_valid_input(
    name: str,
    frames: list[tuple[list[tuple[float, float, float, float, float]], float]],
) -> None:
    tracker = build_tracker(change(EVERY[name], **EAGER))
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


@ALL
@pytest.mark.parametrize("far", [1e6, -1e6, 9_438_817.0])
def test_small_boxes_far_away_keep_a_size(name: str, far: float) -> None:
    tracker = build_tracker(EVERY[name])
    with np.errstate(all="raise", under="ignore"):
        box = make([[0, far, 1, far + 1]], [0.9])
        answers = track_stream(tracker, [box, box, box, *[Detections.empty()] * 2, box])
    assert all(np.isfinite(tracks.boxes).all() for tracks in answers)


@pytest.mark.slow
@ALL
def test_a_hundred_thousand_frames_take_no_more_memory_or_time(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every thousand frames the crowd is replaced by another."""
    tracker = build_tracker(EVERY[name])
    blocks: list[tuple[float, float]] = []
    for block in range(10):
        seconds = []
        for part in range(10):
            for index, detections in enumerate(crowd_stream(15, 1000, 10 * block + part)):
                now = (10_000 * block + 1000 * part + index) / RATE
                start = time.perf_counter()
                tracker.update(detections, now)
                seconds.append(time.perf_counter() - start)
        gc.collect()
        blocks.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1e3 * float(np.median(seconds))))
        assert sum(value.nbytes for value in tracker.state_dict().values()) < 1e6
    with capsys.disabled():
        memory, times = zip(*blocks, strict=True)
        print(f"\n{name}: {memory[0]:.1f} -> {memory[-1]:.1f} MiB, {times[0]:.3f} -> {times[-1]:.3f} ms a frame")  # noqa: T201
    assert blocks[-1][0] - blocks[1][0] < 5


# --- classes ----------------------------------------------------------------------------------------------------------


@ALL
def test_a_label_does_not_flicker(name: str) -> None:
    classes = [0] * 8 + [2, 0, 2, 0, 0] + [2] * 20
    stream = [make([[100, 100, 140, 200]], [0.9], [index]) for index in classes]
    voted = track_stream(build_tracker(EVERY[name]), stream)
    assert {tracks.ids.tolist()[0] for tracks in voted if len(tracks)} == {1}
    reported = [int(tracks.classes[0]) for tracks in voted if len(tracks)]
    late = 33 - len(reported)  # frames before the tracker reports its first track
    # nine of the one class and two of the other: seven more of the other outvote it
    assert reported == [0] * (13 + 9 - late) + [2] * 11
    plain = track_stream(build_tracker(change(EVERY[name], class_vote=False)), stream)
    assert [int(tracks.classes[0]) for tracks in plain if len(tracks)] == classes[late:]


@ALL
def test_class_aware_tracks_match_only_their_class(name: str) -> None:
    """A dog replaces a person at the same place."""
    person_then_dog = [make([[100, 100, 140, 200]], [0.9], [0])] * 10 + [make([[100, 100, 140, 200]], [0.9], [2])] * 10
    assert track_stream(build_tracker(EVERY[name]), person_then_dog)[-1].ids.tolist() == [1]
    apart = track_stream(build_tracker(change(EVERY[name], class_aware=True)), person_then_dog)[-1]
    assert (apart.ids.tolist(), apart.classes.tolist()) == ([2], [2])


@ALL
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 10))
def test_a_class_aware_track_never_changes_its_class(name: str, seed: int, people: int) -> None:
    random = np.random.default_rng(seed)
    tracker = build_tracker(change(EVERY[name], class_aware=True))
    label: dict[int, int] = {}
    for index, detections in enumerate(crowd_stream(people, 40, seed, HARD)):
        detections = Detections(detections.boxes, detections.scores, random.integers(0, 3, len(detections)))
        tracks = tracker.update(detections, index / RATE)
        np.testing.assert_array_equal(tracks.classes, detections.classes[tracks.detections])
        for identity, of in zip(tracks.ids.tolist(), tracks.classes.tolist(), strict=True):
            assert label.setdefault(identity, of) == of


# --- with embeddings and a camera that moves --------------------------------------------------------------------------


def update_with_embeddings(
    tracker: TrackerBase, detections: Detections, index: int, order: NDArray[np.int64]
) -> Tracks:
    """Advance by a frame in which embeddings depend on the position, given in some order."""
    rows = order[np.isin(order, tracker.rows_to_embed(detections))]
    angle = detections.boxes[rows, 0] / 100
    embeddings = np.stack([np.cos(angle), np.sin(angle), np.ones(len(rows))], axis=1)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    camera = np.array([[1.0, 0, 2 * np.sin(index / 5)], [0, 1, np.cos(index / 7)]])
    return tracker.update(detections, index / RATE, Cues(camera, rows, embeddings.astype(np.float32)))


WITH_APPEARANCE: dict[str, TrackerConfig] = {
    "botsort": BotSortConfig(appearance=AppearanceConfig()),
    "deepsort": DeepSortConfig(gallery=5),
    "strongsort": StrongSortConfig(),
}


@pytest.mark.parametrize("name", WITH_APPEARANCE)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 12), cut=st.integers(0, 39))
def test_order_and_restoring_do_not_matter_with_embeddings(name: str, seed: int, people: int, cut: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (build_tracker(WITH_APPEARANCE[name], RATE) for _ in range(2))
    for index, detections in enumerate(crowd_stream(people, 40, seed, HARD)):
        order = random.permutation(len(detections))
        shuffled = Detections(detections.boxes[order], detections.scores[order], detections.classes[order])
        a = update_with_embeddings(one, detections, index, np.arange(len(detections)))
        b = update_with_embeddings(other, shuffled, index, random.permutation(len(detections)))
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        np.testing.assert_array_equal(detections.boxes[a.detections], shuffled.boxes[b.detections])
        if index == cut:  # continues from a state, in a tracker that processed another video
            state, other = one.state_dict(), build_tracker(WITH_APPEARANCE[name], RATE)
            update_with_embeddings(other, make([[0, 0, 40, 90]], [0.9]), 0, np.arange(1))
            other.load_state_dict(state)


@pytest.mark.parametrize("name", WITH_APPEARANCE)
def test_a_refused_state_leaves_the_embeddings_as_they_were(name: str) -> None:
    tracker = build_tracker(WITH_APPEARANCE[name], RATE)
    for index in range(5):
        update_with_embeddings(tracker, person(100), index, np.arange(1))
    before = tracker.state_dict()
    longer = np.zeros((*before["embeddings"].shape[:-2], 9, 1), np.float32)
    for broken in (
        {**before, "embeddings": longer, "lost": np.zeros((1, 1), np.bool_)},
        {**before, "embeddings": np.zeros(3, np.float32)},
        {**before, "next_id": np.array("x")},
        build_tracker(EVERY["bytetrack"]).state_dict(),
    ):
        with pytest.raises(ValueError, match=r"state|invalid literal"):
            tracker.load_state_dict(broken)
        for key, value in tracker.state_dict().items():
            np.testing.assert_array_equal(value, before[key])


def test_measurements_of_confidence_1_keep_the_filter_finite() -> None:
    tracker = build_tracker(StrongSortConfig(), RATE)
    now = 0.0
    for _ in range(50):
        now += 1e-9
        tracks = tracker.update(person(100, 1.0), now)
        assert np.isfinite(tracker.state_dict()["motion"]).all()
    assert tracks.ids.tolist() == [1]

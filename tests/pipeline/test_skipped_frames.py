"""`detector.every`: the frames between the detected ones have boxes on lines between theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from motserve.pipeline.skipped_frames import SkippedFrames
from motserve.types import INTERPOLATED, NO_DETECTION, TrackedFrame, Tracks


def frame(index: int, **left: float) -> TrackedFrame:
    """A frame at 10 Hz; each keyword is a track and its identity, such as `t2`, with the left edge of its box."""
    ids = np.array([int(name[1:]) for name in left], np.int64)
    boxes = np.array([(x, 10, x + 20, 60) for x in left.values()], np.float32).reshape(-1, 4)
    n = len(ids)
    tracks = Tracks(ids, boxes, np.full(n, 0.8, np.float32), np.zeros(n, np.int64), np.arange(n))
    return TrackedFrame(index, index / 10, tracks, ids.copy())


def skip(frames: SkippedFrames, *indices: int) -> SkippedFrames:
    for index in indices:
        frames.add(index, index / 10)
    return frames


def left_edges(tracked: TrackedFrame) -> dict[int, float]:
    edges = tracked.boxes[:, 0].tolist()
    return {identity: round(x, 3) for identity, x in zip(tracked.identities.tolist(), edges, strict=True)}


def test_boxes_move_evenly_in_time_between_the_detected_frames() -> None:
    frames = SkippedFrames()
    assert [item.index for item in frames.fill([frame(0, t1=0, t2=100)])] == [0]
    skip(frames, 1, 2)
    frames.add(3, 0.375)
    filled = frames.fill([frame(4, t1=40, t2=80)])
    assert [item.index for item in filled] == [1, 2, 3, 4]
    assert [left_edges(item) for item in filled] == [
        {1: 10, 2: 95},
        {1: 20, 2: 90},
        {1: 37.5, 2: 81.25},
        {1: 40, 2: 80},
    ]
    assert [item.tracks.detections.tolist() for item in filled] == [[INTERPOLATED] * 2] * 3 + [[0, 1]]
    assert filled[1].scores.tolist() == pytest.approx([0.8, 0.8])


def test_only_tracks_of_both_frames_with_one_identity_are_between() -> None:
    before, after = frame(0, t1=0, t2=50, t3=90), frame(2, t3=92, t2=54, t4=10)
    after = replace(after, identities=np.array([7, 2, 4]))
    frames = SkippedFrames()
    frames.fill([before])
    between, _ = skip(frames, 1).fill([after])
    assert left_edges(between) == {2: 52}


def test_between_a_prediction_and_a_detection_is_a_prediction() -> None:
    lost = frame(2, t1=20)
    tracks = replace(lost.tracks, detections=np.array([NO_DETECTION]), scores=np.zeros(1, np.float32))
    frames = SkippedFrames()
    frames.fill([frame(0, t1=0)])
    between, _ = skip(frames, 1).fill([replace(lost, tracks=tracks)])
    assert between.tracks.detections.tolist() == [NO_DETECTION]
    assert between.scores.tolist() == [0]


def test_frames_behind_the_last_detected_one_have_its_boxes() -> None:
    frames = SkippedFrames()
    frames.fill([frame(0, t1=0)])
    rest = skip(frames, 1, 2).finish()
    assert [(item.index, left_edges(item)) for item in rest] == [(1, {1: 0}), (2, {1: 0})]
    assert [item.tracks.detections.tolist() for item in rest] == [[NO_DETECTION]] * 2
    assert frames.finish() == []


def test_frames_before_the_first_detected_one_are_empty() -> None:
    first, detected = skip(SkippedFrames(), 1).fill([frame(2, t1=0)])
    assert (len(first.tracks), len(detected.tracks)) == (0, 1)
    assert [len(item.tracks) for item in skip(SkippedFrames(), 1, 2).finish()] == [0, 0]


def test_several_undecided_frames_are_filled_at_once() -> None:
    frames = skip(SkippedFrames(), 1, 2, 4, 5, 7)
    filled = frames.fill([frame(0, t1=0), frame(3, t1=3), frame(6, t1=6)])
    assert [(item.index, left_edges(item)[1]) for item in filled] == [(index, index) for index in range(7)]
    assert [item.index for item in frames.finish()] == [7]


@pytest.mark.parametrize("begun", [False, True])
def test_the_state_gives_the_same_future(begun: bool) -> None:
    frames = SkippedFrames()
    if begun:
        frames.fill([frame(0, t1=0, t2=9)])
    skip(frames, 1, 2)
    restored = SkippedFrames()
    restored.load_state_dict(frames.state_dict())
    for one, other in zip(
        [*frames.fill([frame(3, t1=3)]), *skip(frames, 4).finish()],
        [*restored.fill([frame(3, t1=3)]), *skip(restored, 4).finish()],
        strict=True,
    ):
        assert (one.index, one.timestamp, left_edges(one)) == (other.index, other.timestamp, left_edges(other))
        assert one.tracks.detections.tolist() == other.tracks.detections.tolist()


def test_a_state_with_another_shape_is_refused() -> None:
    state = skip(SkippedFrames(), 1).state_dict()
    with pytest.raises(ValueError, match="timestamp"):
        SkippedFrames().load_state_dict({**state, "timestamp": np.zeros(2)})

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tracker_streams import HARD, PUBLISHED, RATE, assert_same, make, person, track_stream

from motserve.config import BufferedIouConfig, ByteTrackConfig, ConfidenceScalingConfig, TimedKalmanConfig, load_config
from motserve.lab.benchmark.streams import crowd_stream
from motserve.tracking import ByteTrack, build_tracker
from motserve.types import Detections, Tracks

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("rate", [7.0, 25.0, 30.0, 60.0, 1000 / 33])
def test_the_lost_buffer_is_in_seconds(rate: float) -> None:
    config = ByteTrackConfig(lost_buffer_s=1.0)
    for pause, expected in ((0.9, [1]), (1.0 + 4 / rate, [2])):
        tracker = ByteTrack(config)
        frames = round(pause * rate)
        track_stream(tracker, [person(100)] * 5, rate)
        track_stream(tracker, [Detections.empty()] * frames, rate, start=5)
        answers = track_stream(tracker, [person(100)] * 2, rate, start=5 + frames)
        assert answers[-1].ids.tolist() == expected


@pytest.mark.parametrize("skipped", [0, 3, 8, 12])
def test_the_prediction_spans_the_real_interval(skipped: int) -> None:
    # 5 pixels a frame: after 8 skipped frames the box has moved by more than its width.
    tracker = ByteTrack(ByteTrackConfig())
    track_stream(tracker, [person(5 * index) for index in range(40)])
    frame = 40 + skipped
    tracks = tracker.update(person(5 * frame), frame / RATE)
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracks.boxes[0], person(5 * frame).boxes[0], atol=2)


def test_a_birth_is_confirmed_by_the_next_frame_only() -> None:
    tracker = ByteTrack(ByteTrackConfig())
    answers = track_stream(tracker, [Detections.empty(), person(100), Detections.empty(), person(100), person(101)])
    assert [tracks.ids.tolist() for tracks in answers] == [[], [], [], [], [2]]


def test_thresholds_are_the_least_scores() -> None:
    config = PUBLISHED.model_copy(update={"high_confidence": 0.5, "new_track_confidence": 0.75, "low_confidence": 0.25})
    for scores, ids in (([0.75, 0.5], [1]), ([0.74], []), ([0.75, 0.25], [])):
        answers = track_stream(ByteTrack(config), [person(100, score) for score in scores])
        assert answers[-1].ids.tolist() == ids


def test_a_low_score_keeps_a_track_but_starts_none() -> None:
    tracker = ByteTrack(ByteTrackConfig())
    answers = track_stream(tracker, [person(100), person(100, 0.2), person(100, 0.1), person(100, 0.2)])
    assert [tracks.ids.tolist() for tracks in answers] == [[1], [1], [], []]


def test_the_configuration_builds_the_tracker() -> None:
    config = load_config([ROOT / "configs" / "tracker" / "bytetrack.yaml"])
    assert config.tracker == ByteTrackConfig()
    assert isinstance(build_tracker(config.tracker), ByteTrack)


def test_the_reference_rate_is_a_setting() -> None:
    stream = crowd_stream(15, 60, 6, HARD)
    at_thirty = track_stream(ByteTrack(PUBLISHED.model_copy(update={"lost_buffer_s": 1.0})), stream)
    changes = {"kalman": TimedKalmanConfig(reference_rate_hz=10.0), "lost_buffer_s": 3.0}
    config = PUBLISHED.model_copy(update=changes)
    assert_same(track_stream(ByteTrack(config), stream, rate=10), at_thirty)


def test_the_published_algorithm_has_a_file() -> None:
    assert load_config([ROOT / "configs" / "tracker" / "bytetrack-published.yaml"]).tracker == PUBLISHED


# --- thresholds scaled to the detector's confidence -------------------------------------------------------------------


def with_only(**changes: object) -> ByteTrackConfig:
    return ByteTrackConfig(**{**PUBLISHED.model_dump(), **changes})


def births(level: float, score: float, config: ByteTrackConfig) -> int:
    """Return the number of tracks of a person with confidence `score` among nine people with confidence `level`."""
    tracker = ByteTrack(config)
    people = [[100 * place, 100, 100 * place + 40, 200] for place in range(10)]
    track_stream(tracker, [make(people[:9], [level] * 9)] * 1200)
    answers = track_stream(tracker, [make(people, [level] * 9 + [score])] * 5, start=1200)
    return len(answers[-1]) - 9


@pytest.mark.parametrize(("level", "least"), [(0.775, 0.7), (0.95, 0.86), (0.55, 0.5)])
def test_thresholds_scale_with_the_confidence_of_the_detector(level: float, least: float) -> None:
    config = with_only(confidence_scaling=ConfidenceScalingConfig())
    assert births(level, least + 0.02, config) == 1
    assert births(level, least - 0.02, config) == 0
    assert births(level, 0.72, PUBLISHED) == 1 or level < 0.7


def test_false_alarms_alone_lower_the_thresholds_no_further_than_configured() -> None:
    tracker = ByteTrack(with_only(confidence_scaling=ConfidenceScalingConfig(memory_s=1.0, min_level=0.5)))
    answers = track_stream(tracker, [person(100, 0.4)] * 600)
    assert not any(len(tracks) for tracks in answers)
    eager = ByteTrack(with_only(confidence_scaling=ConfidenceScalingConfig(memory_s=1.0, min_level=0.3)))
    assert any(len(tracks) for tracks in track_stream(eager, [person(100, 0.4)] * 600))


def test_confidence_scaling_decays_by_time_and_not_by_frames() -> None:
    config = with_only(confidence_scaling=ConfidenceScalingConfig())
    states: list[Any] = []
    for rate in (10, 30):
        tracker = ByteTrack(config)
        track_stream(tracker, [person(100, 0.9)] + [Detections.empty()] * (rate * 60), rate)
        states.append(tracker.state_dict()["confidence_scaling"])
    np.testing.assert_allclose(states[0], states[1], rtol=1e-9)


def test_the_first_frame_has_no_time_before_it_that_could_be_forgotten() -> None:
    tracker = ByteTrack(ByteTrackConfig())
    before = tracker.state_dict()["confidence_scaling"]
    tracker.update(Detections.empty(), 5.0)
    np.testing.assert_array_equal(tracker.state_dict()["confidence_scaling"], before)


def test_confidence_scaling_depends_on_no_time_but_that_between_frames() -> None:
    sums: list[Any] = []
    for start in (0, 300):
        tracker = ByteTrack(ByteTrackConfig())
        track_stream(tracker, [person(100, 0.9)] * 10, start=start)
        sums.append(tracker.state_dict()["confidence_scaling"])
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-9)


# --- association by buffered IoU --------------------------------------------------------------------------------------


def ids_after_a_jump(jump: float, config: ByteTrackConfig, height: float = 100, pause: int = 6) -> list[int]:
    """Return the track IDs after a person stood still, was missed for some frames and then jumped."""
    tracker = ByteTrack(config)
    track_stream(tracker, [person(100)] * 10)
    track_stream(tracker, [Detections.empty()] * pause, start=10)
    back = make([[100 + jump, 100, 140 + jump, 100 + height]], [0.9])
    ids: list[int] = track_stream(tracker, [back] * 2, start=10 + pause)[-1].ids.tolist()
    return ids


def test_a_jump_beyond_overlap_is_matched_by_buffered_iou() -> None:
    buffered = with_only(buffered_iou=BufferedIouConfig())
    assert ids_after_a_jump(42, PUBLISHED) == [2]
    assert ids_after_a_jump(42, buffered) == [1]
    assert ids_after_a_jump(90, buffered) == [2]


def test_the_heights_must_agree() -> None:
    assert ids_after_a_jump(30, PUBLISHED, height=130) == [2]
    assert ids_after_a_jump(30, with_only(buffered_iou=BufferedIouConfig()), height=130) == [2]
    assert ids_after_a_jump(30, with_only(buffered_iou=BufferedIouConfig(height_ratio=1.4)), height=130) == [1]


def test_boxes_grow_with_the_time_since_the_last_match() -> None:
    slow = with_only(buffered_iou=BufferedIouConfig(speed=1.0))
    assert ids_after_a_jump(42, slow, pause=1) == [2]
    assert ids_after_a_jump(42, slow, pause=20) == [1]


def test_buffered_iou_does_not_change_matches_of_the_first_association() -> None:
    """With enlarged boxes the track is nearer to the other detection, but it is matched already."""
    stream = [make([[100, 100, 140, 200], [150, 100, 190, 200]], [0.9, 0.9])] * 20
    for config in (PUBLISHED, with_only(buffered_iou=BufferedIouConfig(expansion=3, speed=100))):
        assert {tuple(tracks.ids.tolist()) for tracks in track_stream(ByteTrack(config), stream)} == {(1, 2)}


def test_a_track_with_the_best_detection_is_not_matched_again() -> None:
    tracker = ByteTrack(with_only(buffered_iou=BufferedIouConfig(expansion=3, speed=100)))
    track_stream(tracker, [person(100)] * 10)
    both = make([[100, 100, 140, 200], [142, 100, 182, 200]], [0.9, 0.8])
    answers = track_stream(tracker, [both] * 2, start=10)
    assert [(tracks.ids.tolist(), tracks.detections.tolist()) for tracks in answers] == [([1], [0]), ([1, 2], [0, 1])]


def test_a_detection_matched_by_buffered_iou_starts_no_track() -> None:
    tracker = ByteTrack(with_only(buffered_iou=BufferedIouConfig(), report_unconfirmed=True))
    track_stream(tracker, [person(100)] * 10 + [Detections.empty()] * 6)
    assert tracker.update(person(142), 16 / RATE).ids.tolist() == [1]


@pytest.mark.parametrize(("class_aware", "expected"), [(False, 1), (True, 2)])
def test_the_classes_must_agree_only_where_configured(class_aware: bool, expected: int) -> None:
    tracker = ByteTrack(with_only(buffered_iou=BufferedIouConfig(), class_aware=class_aware))
    track_stream(tracker, [person(100)] * 10 + [Detections.empty()] * 6)
    answers = track_stream(tracker, [make([[142, 100, 182, 200]], [0.9], [2])] * 2, start=16)
    assert answers[-1].ids.tolist() == [expected]


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_the_younger_of_two_tracks_at_one_place_is_removed() -> None:
    tracker = ByteTrack(PUBLISHED)
    both = make([[100, 100, 140, 200], [102, 100, 142, 200]], [0.9, 0.9])
    answers = track_stream(tracker, [person(100)] * 5 + [both] * 5 + [person(100)] * 3)
    assert [answers[index].ids.tolist() for index in (9, 12)] == [[1, 2], [1]]
    assert tracker.state_dict()["ids"].tolist() == [1]


@pytest.mark.parametrize("alone", [1, 5])
def test_a_tracked_duplicate_is_removed_unless_it_is_older(alone: int) -> None:
    """Also at equal age: the track that was alone for one frame is lost for one."""
    tracker = ByteTrack(PUBLISHED)
    both = make([[100, 100, 140, 200], [102, 100, 142, 200]], [0.9, 0.9])
    answers = track_stream(tracker, [person(100)] * alone + [both] * 5 + [person(102)] * 2)
    assert [tracks.ids.tolist() for tracks in answers[-3:]] == [[1, 2], [], [1]]


@pytest.mark.parametrize("class_aware", [False, True])
def test_tracks_that_overlap_less_are_no_duplicates(class_aware: bool) -> None:
    """Nine tenths of the width and of the height, two thirds of the union."""
    tracker = ByteTrack(PUBLISHED.model_copy(update={"class_aware": class_aware}))
    both = make([[100, 100, 140, 200], [104, 110, 144, 210]], [0.9, 0.9])
    track_stream(tracker, [both] * 5 + [person(100)] * 3)
    assert tracker.state_dict()["ids"].tolist() == [1, 2]


# --- returned boxes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_returned_boxes_lie_between_motion_model_and_detection(weight: float) -> None:
    stream = crowd_stream(10, 60, 2, HARD)
    plain = track_stream(ByteTrack(PUBLISHED), stream)
    mixed = track_stream(ByteTrack(with_only(detection_weight=weight)), stream)
    for detections, a, b in zip(stream, plain, mixed, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        expected = (1 - weight) * a.boxes + weight * detections.boxes[a.detections]
        np.testing.assert_allclose(b.boxes, expected, atol=1e-3)


# --- what is reported -------------------------------------------------------------------------------------------------


def test_a_lost_track_is_reported_with_its_predicted_box_for_the_configured_time() -> None:
    walking = [person(100 + 4 * index) for index in range(20)]
    config = ByteTrackConfig(report_lost_s=0.5, kalman=TimedKalmanConfig(reference_rate_hz=None))
    answers = track_stream(ByteTrack(config), [*walking, *[Detections.empty()] * 40, person(100 + 4 * 60)])
    assert [len(tracks) for tracks in answers[20:60]] == [1] * 15 + [0] * 25
    for index, tracks in enumerate(answers[20:35], 20):
        assert (tracks.ids.tolist(), tracks.scores.tolist(), tracks.detections.tolist()) == ([1], [0], [-1])
        assert not tracks.measured.any()
        assert tracks.boxes[0, 0] == pytest.approx(100 + 4 * index, abs=3)
    plain = track_stream(
        ByteTrack(config.model_copy(update={"report_lost_s": 0.0})),
        [*walking, *[Detections.empty()] * 40, person(100 + 4 * 60)],
    )
    assert all(tracks.measured.all() for tracks in plain)
    assert plain[-1].ids.tolist() == answers[-1].ids.tolist() == [1]
    np.testing.assert_array_equal(plain[-1].boxes, answers[-1].boxes)


def test_matched_and_lost_tracks_are_reported_together() -> None:
    stream = crowd_stream(15, 80, 8, HARD)
    plain = track_stream(ByteTrack(ByteTrackConfig()), stream)
    both = track_stream(ByteTrack(ByteTrackConfig(report_lost_s=1.0)), stream)
    assert sum(int((~tracks.measured).sum()) for tracks in both) > 100
    for a, b in zip(plain, both, strict=True):
        assert b.ids.tolist() == sorted(set(b.ids.tolist()))
        measured = b.measured
        assert_same(
            [a],
            [
                Tracks(
                    b.ids[measured],
                    b.boxes[measured],
                    b.scores[measured],
                    b.classes[measured],
                    b.detections[measured],
                )
            ],
        )


def test_unconfirmed_tracks_are_reported_where_asked_for() -> None:
    stream = [Detections.empty(), person(100), Detections.empty(), person(100), person(101)]
    answers = track_stream(ByteTrack(ByteTrackConfig(report_unconfirmed=True)), stream)
    assert [tracks.ids.tolist() for tracks in answers] == [[], [1], [], [2], [2]]


def test_a_new_track_is_confirmed_without_overlap_between_its_first_frames() -> None:
    """At two frames a second a person's second box does not overlap the first."""
    empty, frames = Detections.empty(), [person(100 + 42 * index) for index in range(6)]
    tracker = ByteTrack(ByteTrackConfig(), rate_hz=2.0)
    answers = [tracker.update(detections, index / 2) for index, detections in enumerate([empty, *frames])]
    assert [tracks.ids.tolist() for tracks in answers] == [[], [], [1], [1], [1], [1], [1]]

from __future__ import annotations

import numpy as np
import pytest
from tracker_streams import HARD, RATE, assert_same, make, person, track_with_embeddings

from motserve.base import TrackerBase
from motserve.config import DeepSortConfig, StrongSortConfig, TrackerConfig
from motserve.lab.benchmark.streams import crowd_stream
from motserve.tracking import build_tracker
from motserve.types import Cues, Detections, FloatArray, Tracks

BOTH: dict[str, TrackerConfig] = {"deepsort": DeepSortConfig(), "strongsort": StrongSortConfig()}
ALL = pytest.mark.parametrize("name", BOTH)
RED, BLUE, GREEN = np.eye(3, dtype=np.float32)


def with_embeddings(*embeddings: FloatArray) -> Cues:
    return Cues(rows=np.arange(len(embeddings)), embeddings=np.stack(embeddings))


def stand(tracker: TrackerBase, detections: Detections, cues: Cues, frames: range) -> list[Tracks]:
    return [tracker.update(detections, frame / RATE, cues) for frame in frames]


def ids_by_detection(tracks: Tracks) -> list[int]:
    ids: list[int] = tracks.ids[np.argsort(tracks.detections)].tolist()
    return ids


PAIR = make([[100, 100, 140, 200], [112, 100, 152, 200]], [0.9, 0.9])


@ALL
def test_a_track_is_reported_once_it_was_matched_in_three_frames_in_a_row(name: str) -> None:
    answers = stand(build_tracker(BOTH[name], RATE), person(100), Cues(), range(4))
    assert [tracks.ids.tolist() for tracks in answers] == [[], [], [1], [1]]
    tracker = build_tracker(BOTH[name], RATE)
    stand(tracker, person(100), Cues(), range(2))
    stand(tracker, Detections.empty(), Cues(), range(2, 3))
    answers = stand(tracker, person(100), Cues(), range(3, 6))
    assert [tracks.ids.tolist() for tracks in answers] == [[], [], [2]]


@ALL
def test_people_who_swap_places_keep_their_ids_by_appearance(name: str) -> None:
    tracker = build_tracker(BOTH[name], RATE)
    stand(tracker, PAIR, with_embeddings(RED, BLUE), range(10))
    (tracks,) = stand(tracker, PAIR, with_embeddings(BLUE, RED), range(10, 11))
    assert ids_by_detection(tracks) == [2, 1]
    (blind,) = stand(tracker, PAIR, Cues(), range(11, 12))
    assert sorted(ids_by_detection(blind)) == [1, 2], "IoU alone counts without embeddings"


@ALL
def test_a_returning_person_is_matched_by_appearance_and_not_by_place(name: str) -> None:
    for embedding, expected in ((RED, [1]), (GREEN, [2])):
        tracker = build_tracker(BOTH[name], RATE)
        stand(tracker, person(100), with_embeddings(RED), range(10))
        stand(tracker, Detections.empty(), Cues(), range(10, 22))
        answers = stand(tracker, person(112), with_embeddings(embedding), range(22, 26))
        assert answers[-1].ids.tolist() == expected


@ALL
def test_the_motion_gate_overrules_appearance(name: str) -> None:
    tracker = build_tracker(BOTH[name], RATE)
    stand(tracker, person(100), with_embeddings(RED), range(10))
    answers = stand(tracker, person(900), with_embeddings(RED), range(10, 14))
    assert answers[-1].ids.tolist() == [2]


def test_the_gallery_keeps_an_earlier_appearance_and_a_mean_does_not() -> None:
    """A person turns for a second and turns back, having moved too far for overlap."""
    ids = {}
    for name, config in BOTH.items():
        tracker = build_tracker(config, RATE)
        stand(tracker, person(100), with_embeddings(RED), range(10))
        stand(tracker, person(100), with_embeddings(BLUE), range(10, 60))
        stand(tracker, Detections.empty(), Cues(), range(60, 75))
        ids[name] = stand(tracker, person(145), with_embeddings(RED), range(75, 79))[-1].ids.tolist()
    assert ids == {"deepsort": [1], "strongsort": [2]}


def test_recently_matched_tracks_come_first() -> None:
    """Of two similar people, the one never lost gets the detection that is slightly more similar to the other."""
    reddish = np.array([0.99, np.sqrt(1 - 0.99**2), 0], np.float32)
    tracker = build_tracker(DeepSortConfig(), RATE)
    both = make([[100, 100, 140, 200], [118, 100, 158, 200]], [0.9, 0.9])
    stand(tracker, both, with_embeddings(RED, reddish), range(10))
    (tracks,) = stand(tracker, make([[109, 100, 149, 200]], [0.9]), with_embeddings(reddish), range(10, 11))
    assert tracks.ids.tolist() == [2], "at equal age, appearance decides"
    stand(tracker, both, with_embeddings(RED, reddish), range(11, 20))
    stand(tracker, person(100), with_embeddings(RED), range(20, 24))
    (tracks,) = stand(tracker, make([[109, 100, 149, 200]], [0.9]), with_embeddings(reddish), range(24, 25))
    assert tracks.ids.tolist() == [1]


def test_a_confident_detection_corrects_the_filter_more() -> None:
    boxes = []
    for score in (0.95, 0.65):
        tracker = build_tracker(StrongSortConfig(), RATE)
        stand(tracker, person(100, 0.9), Cues(), range(10))
        (tracks,) = stand(tracker, person(108, score), Cues(), range(10, 11))
        boxes.append(float(tracks.boxes[0, 0]))
    assert 100 < boxes[1] < boxes[0] < 108


def test_tracks_are_compensated_for_camera_motion() -> None:
    tracker = build_tracker(StrongSortConfig(), RATE)
    stand(tracker, person(100), Cues(), range(10))
    turned = Cues(np.array([[1.0, 0, 90], [0, 1, 0]]))
    assert tracker.update(person(190), 10 / RATE, turned).ids.tolist() == [1]


@ALL
@pytest.mark.parametrize("cut", [0, 1, 37])
def test_a_restored_state_has_the_embeddings(name: str, cut: int) -> None:
    stream = crowd_stream(20, 60, 4, HARD)
    original = build_tracker(BOTH[name], RATE)
    track_with_embeddings(original, stream[:cut])
    state = original.state_dict()
    future = track_with_embeddings(original, stream[cut:], cut)
    restored = build_tracker(BOTH[name], RATE)
    restored.update(PAIR, 0.0, Cues(rows=np.arange(2), embeddings=np.eye(2, 5, dtype=np.float32)))
    restored.load_state_dict(state)
    assert_same(track_with_embeddings(restored, stream[cut:], cut), future)
    assert sum(map(len, future)) > 100


def test_a_mean_embedding_outweighs_one_outlier() -> None:
    """A person is embedded from the back for one frame, then lost, and returns too far away for overlap."""
    ids = {}
    for smoothing in (0.9, 0.0):
        tracker = build_tracker(StrongSortConfig(smoothing=smoothing), RATE)
        stand(tracker, person(100), with_embeddings(RED), range(20))
        stand(tracker, person(100), with_embeddings(BLUE), range(20, 21))
        stand(tracker, Detections.empty(), Cues(), range(21, 36))
        ids[smoothing] = stand(tracker, person(145), with_embeddings(RED), range(36, 40))[-1].ids.tolist()
    assert ids == {0.9: [1], 0.0: [2]}


def test_motion_is_part_of_the_cost_of_strongsort() -> None:
    """Two people have equal embeddings: without motion in the cost, their IDs could be swapped."""
    tracker = build_tracker(StrongSortConfig(), RATE)
    both = make([[100, 100, 140, 200], [112, 100, 152, 200]], [0.9, 0.9])
    swapped = make([[112, 100, 152, 200], [100, 100, 140, 200]], [0.9, 0.8])
    first = tracker.update(both, 0.0, with_embeddings(RED, RED))
    assert len(first) == 0
    for frame in range(1, 30):
        tracks = tracker.update(both if frame % 2 else swapped, frame / RATE, with_embeddings(RED, RED))
        if frame > 3:
            left = tracks.boxes[:, 0]
            assert left[tracks.ids == 1] < left[tracks.ids == 2]


@ALL
@pytest.mark.parametrize(("away", "expected"), [(44, [1]), (60, [2])])
def test_the_gate_is_where_95_per_cent_of_right_pairs_are(name: str, away: float, expected: list[int]) -> None:
    """After two missed frames overlap does not count; the deviation of a person who stood is then some 17 pixels."""
    tracker = build_tracker(BOTH[name], RATE)
    stand(tracker, person(100), with_embeddings(RED), range(30))
    stand(tracker, Detections.empty(), Cues(), range(30, 32))
    answers = stand(tracker, person(100 + away), with_embeddings(RED), range(32, 35))
    assert answers[-1].ids.tolist() == expected

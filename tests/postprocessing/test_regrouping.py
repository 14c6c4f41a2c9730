from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from motserve.config import MotionGateConfig, RegroupingConfig, ReIDConfig, load_config
from motserve.postprocessing import EmbeddingHistory, PostProcessor, regroup
from motserve.types import NO_DETECTION, EmbeddedCrops, Link, TrackedFrame, Tracks

RED, GREEN, BLUE = np.eye(4, dtype=np.float32)[:3]
REID = ReIDConfig(max_distance=0.3, gate=MotionGateConfig(slack=1, max_speed=1))
LeftEdges = Mapping[int, float]
"""The left edge of each identity's box, 40 wide and 100 high."""


def mixed(first: np.ndarray, second: np.ndarray, distance: float) -> np.ndarray:
    return np.asarray((1 - distance) * first + np.sqrt(1 - (1 - distance) ** 2) * second, np.float32)


def video(left_edges: Sequence[LeftEdges], predicted: Sequence[tuple[int, int]] = ()) -> list[TrackedFrame]:
    """A frame a second; `predicted` are frames and identities that were not measured."""
    frames = []
    for index, people in enumerate(left_edges):
        n = len(people)
        left = np.array(list(people.values()), np.float32).reshape(n)
        boxes = np.stack([left, np.zeros(n), left + 40, np.full(n, 100)], axis=1).astype(np.float32)
        rows = np.array(
            [NO_DETECTION if (index, identity) in predicted else 0 for identity in people], np.int64
        ).reshape(n)
        ids = np.array(list(people), np.int64)
        tracks = Tracks(ids + 100, boxes, np.ones(n, np.float32), np.zeros(n, np.int64), rows)
        frames.append(TrackedFrame(index, float(index), tracks, ids))
    return frames


def regrouped(
    frames: Sequence[LeftEdges], embeddings: dict[int, np.ndarray], reid: ReIDConfig = REID, **changes: object
) -> list[list[int]]:
    config = RegroupingConfig.model_validate(changes)
    all_embeddings = {identity: np.atleast_2d(embedding) for identity, embedding in embeddings.items()}
    return [frame.identities.tolist() for frame in regroup(video(frames), all_embeddings, config, reid, (640, 480))]


def test_similar_identities_that_are_never_present_together_are_merged() -> None:
    assert regrouped([{1: 0}, {}, {2: 0}, {3: 300}], {1: RED, 2: mixed(RED, BLUE, 0.2), 3: GREEN}) == [
        [1],
        [],
        [1],
        [3],
    ]


def test_identities_present_at_the_same_time_are_never_merged() -> None:
    assert regrouped([{1: 0}, {1: 0, 2: 200}, {2: 200}], {1: RED, 2: RED}) == [[1], [1, 2], [2]]


def test_dissimilar_or_unreachable_identities_are_not_merged() -> None:
    assert regrouped([{1: 0}, {2: 0}], {1: RED, 2: mixed(RED, BLUE, 0.35)}) == [[1], [2]]
    assert regrouped([{1: 0}, {2: 250}], {1: RED, 2: RED}) == [[1], [2]]
    assert regrouped([{1: 0}, {}, {2: 250}], {1: RED, 2: RED}) == [[1], [], [1]]
    assert regrouped([{1: 0}, {}, {}, {2: 0}], {1: RED, 2: RED}, max_gap_s=2) == [[1], [], [], [2]]


def test_an_identity_may_be_present_between_two_visits_of_another() -> None:
    assert regrouped([{1: 0}, {}, {2: 0}, {}, {1: 0}], {1: RED, 2: RED}) == [[1], [], [1], [], [1]]
    far = [{1: 0}, {}, {2: 0}, {1: 400}]  # 4 heights in a second
    assert regrouped(far, {1: RED, 2: RED}) == [[1], [], [2], [1]]


def test_the_nearest_are_merged_first_and_merged_groups_are_compared_again() -> None:
    """2 is nearest to 3, which is present together with 1; so 1, though near to 2 as well, is not merged."""
    frames = [{1: 0, 3: 200}, {}, {2: 100}]
    embeddings = {1: mixed(RED, GREEN, 0.2), 2: RED, 3: mixed(RED, BLUE, 0.1)}
    assert regrouped(frames, embeddings) == [[1, 2], [], [2]], "2 is the lowest number of 2 and 3"
    # three visits of one person, of whom the first and the last share no view
    chain = {1: np.stack([RED, mixed(RED, BLUE, 0.2)]), 2: np.stack([RED, GREEN]), 3: np.stack([GREEN])}
    assert regrouped([{1: 0}, {}, {2: 0}, {}, {3: 0}], chain, ReIDConfig(max_distance=0.6)) == [[1], [], [1], [], [1]]


def test_identities_without_embeddings_are_not_merged() -> None:
    assert regrouped([{1: 0}, {2: 0}], {1: RED}) == [[1], [2]]
    assert regrouped([{1: 0}], {}) == [[1]]
    assert regrouped([], {}) == []


def test_a_predicted_box_does_not_count_as_presence() -> None:
    frames = video([{1: 0}, {1: 0}, {2: 0}, {2: 0}], predicted=[(1, 1)])
    embeddings = {1: RED[None], 2: RED[None]}
    result = regroup(frames, embeddings, RegroupingConfig(), REID)
    assert [frame.identities.tolist() for frame in result] == [[1], [1], [1], [1]]


def test_without_reentry_identities_that_left_through_the_border_are_not_merged() -> None:
    no_reentry = REID.model_copy(update={"gate": REID.gate.model_copy(update={"reentry": False})})
    inside, outside = [{1: 200}, {}, {2: 200}], [{1: 2}, {}, {2: 2}]
    for frames, reid, expected in ((inside, no_reentry, 1), (outside, no_reentry, 2), (outside, REID, 1)):
        lifted = [TrackedFrame(f.index, f.timestamp, lower(f.tracks), f.identities) for f in video(frames)]
        result = regroup(lifted, {1: RED[None], 2: RED[None]}, RegroupingConfig(), reid, (640, 480))
        assert result[2].identities.tolist() == [expected]


def lower(tracks: Tracks) -> Tracks:
    """Move boxes away from the upper border."""
    moved = tracks.boxes + np.array([0, 100, 0, 100], np.float32)
    return Tracks(tracks.ids, moved, tracks.scores, tracks.classes, tracks.detections)


def test_links_get_the_new_identity() -> None:
    frames = video([{1: 0}, {}, {2: 0}])
    link = Link(102, 2, 55, 0.1, 1.0, 0.0)
    frames[2] = TrackedFrame(2, 2.0, frames[2].tracks, frames[2].identities, (link,))
    result = regroup(frames, {1: RED[None], 2: RED[None]}, RegroupingConfig(), REID)
    assert [one.identity for one in result[2].links] == [1]


def test_an_embedding_history_is_bounded_for_each_identity() -> None:
    history = EmbeddingHistory(3)
    for index in range(10):
        boxes, scores = np.zeros((2, 4), np.float32), np.ones(2, np.float32)
        embeddings = np.stack([RED, GREEN if index % 2 else BLUE])
        history.add(
            EmbeddedCrops(float(index), np.array([7, 9]), boxes, scores, embeddings, np.zeros((2, 4, 2, 3), np.uint8))
        )
    result = history.embeddings()
    assert {identity: embeddings.shape for identity, embeddings in result.items()} == {7: (3, 4), 9: (3, 4)}
    assert np.unique(result[9], axis=0).shape == (2, 4)
    no_one = np.empty((0, 4), np.float32)
    no_crops = np.empty((0, 4, 2, 3), np.uint8)
    history.add(EmbeddedCrops(11.0, np.empty(0, np.int64), no_one, np.empty(0, np.float32), no_one, no_crops))


@pytest.mark.parametrize(("changes", "has_history"), [({}, False), ({"regrouping": {}}, True)])
def test_embeddings_are_collected_only_where_they_are_used(changes: dict[str, object], has_history: bool) -> None:
    assert (PostProcessor(load_config([changes])).new_history() is not None) == has_history
    off = PostProcessor(load_config([{**changes, "reid": {"policy": "off"}}]))
    assert off.new_history() is None
    assert bool(off) == has_history
    assert off(video([{1: 0}]))[0].identities.tolist() == [1]


def test_the_predicted_box_of_an_identity_with_a_detection_is_removed() -> None:
    frames = video([{1: 0}, {1: 0}, {1: 5, 2: 0}, {2: 0}], predicted=[(2, 1)])
    result = regroup(frames, {1: RED[None], 2: RED[None]}, RegroupingConfig(), REID)
    assert [frame.identities.tolist() for frame in result] == [[1], [1], [1], [1]]
    assert result[2].tracks.ids.tolist() == [102]


def test_every_bridged_absence_is_within_the_limit() -> None:
    frames = [{1: 0}, *[{} for _ in range(8)], {2: 0}, {1: 0}]
    assert regrouped(frames, {1: RED, 2: RED}, max_gap_s=5)[-2:] == [[2], [1]]
    assert regrouped(frames, {1: RED, 2: RED}, max_gap_s=10)[-2:] == [[1], [1]]

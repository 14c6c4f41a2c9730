from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from motserve.config import MotionGateConfig, RegroupingConfig, ReIDConfig, load_config
from motserve.postprocessing import EmbeddingHistory, PostProcessor, regroup
from motserve.types import NO_DETECTION, EmbeddedCrops, Link, TrackedFrame, Tracks

RED, GREEN, BLUE = np.eye(4, dtype=np.float32)[:3]
REID = ReIDConfig(max_distance=0.3, gate=MotionGateConfig(slack=1, max_speed=1))
Seen = dict[int, float]
"""The left edge of each identity's box, 40 wide and 100 high."""


def mixed(first: np.ndarray, second: np.ndarray, distance: float) -> np.ndarray:
    return ((1 - distance) * first + np.sqrt(1 - (1 - distance) ** 2) * second).astype(np.float32)


def video(seen: Sequence[Seen], predicted: Sequence[tuple[int, int]] = ()) -> list[TrackedFrame]:
    """A frame a second; `predicted` are frames and identities that were not measured."""
    frames = []
    for index, people in enumerate(seen):
        n = len(people)
        left = np.array(list(people.values()), np.float32).reshape(n)
        boxes = np.stack([left, np.zeros(n), left + 40, np.full(n, 100)], axis=1).astype(np.float32)
        rows = np.array([NO_DETECTION if (index, who) in predicted else 0 for who in people], np.int64).reshape(n)
        ids = np.array(list(people), np.int64)
        tracks = Tracks(ids + 100, boxes, np.ones(n, np.float32), np.zeros(n, np.int64), rows)
        frames.append(TrackedFrame(index, float(index), tracks, ids))
    return frames


def joined(
    seen: Sequence[Seen], looks: dict[int, np.ndarray], reid: ReIDConfig = REID, **changes: object
) -> list[list[int]]:
    config = RegroupingConfig(**changes)  # type: ignore[arg-type]
    every = {who: np.atleast_2d(look) for who, look in looks.items()}
    return [frame.identities.tolist() for frame in regroup(video(seen), every, config, reid, (640, 480))]


def test_who_looks_alike_and_was_never_there_at_once_is_one_person() -> None:
    assert joined([{1: 0}, {}, {2: 0}, {3: 300}], {1: RED, 2: mixed(RED, BLUE, 0.2), 3: GREEN}) == [[1], [], [1], [3]]


def test_who_was_there_at_once_is_never_joined_however_alike() -> None:
    assert joined([{1: 0}, {1: 0, 2: 200}, {2: 200}], {1: RED, 2: RED}) == [[1], [1, 2], [2]]


def test_who_is_unlike_or_cannot_have_come_is_not_joined() -> None:
    assert joined([{1: 0}, {2: 0}], {1: RED, 2: mixed(RED, BLUE, 0.35)}) == [[1], [2]]
    assert joined([{1: 0}, {2: 250}], {1: RED, 2: RED}) == [[1], [2]]
    assert joined([{1: 0}, {}, {2: 250}], {1: RED, 2: RED}) == [[1], [], [1]]
    assert joined([{1: 0}, {}, {}, {2: 0}], {1: RED, 2: RED}, max_gap_s=2) == [[1], [], [], [2]]


def test_one_visit_may_lie_between_two_of_another() -> None:
    assert joined([{1: 0}, {}, {2: 0}, {}, {1: 0}], {1: RED, 2: RED}) == [[1], [], [1], [], [1]]
    far = [{1: 0}, {}, {2: 0}, {1: 400}]  # 4 heights in a second
    assert joined(far, {1: RED, 2: RED}) == [[1], [], [2], [1]]


def test_the_nearest_are_joined_first_and_what_is_joined_is_compared_anew() -> None:
    """2 is nearest to 3, with whom 1 was seen; so 1, though near to 2 as well, stays apart."""
    seen = [{1: 0, 3: 200}, {}, {2: 100}]
    looks = {1: mixed(RED, GREEN, 0.2), 2: RED, 3: mixed(RED, BLUE, 0.1)}
    assert joined(seen, looks) == [[1, 2], [], [2]], "2 is the lowest number of 2 and 3"
    # three visits of one person, of whom the first and the last share no view
    chain = {1: np.stack([RED, mixed(RED, BLUE, 0.2)]), 2: np.stack([RED, GREEN]), 3: np.stack([GREEN])}
    assert joined([{1: 0}, {}, {2: 0}, {}, {3: 0}], chain, ReIDConfig(max_distance=0.6)) == [[1], [], [1], [], [1]]


def test_who_was_never_looked_at_is_left_alone() -> None:
    assert joined([{1: 0}, {2: 0}], {1: RED}) == [[1], [2]]
    assert joined([{1: 0}], {}) == [[1]]
    assert joined([], {}) == []


def test_a_prediction_is_no_presence() -> None:
    frames = video([{1: 0}, {1: 0}, {2: 0}, {2: 0}], predicted=[(1, 1)])
    looks = {1: RED[None], 2: RED[None]}
    found = regroup(frames, looks, RegroupingConfig(), REID)
    assert [frame.identities.tolist() for frame in found] == [[1], [1], [1], [1]]


def test_without_reentry_who_left_through_the_border_stays_apart() -> None:
    apart = REID.model_copy(update={"gate": REID.gate.model_copy(update={"reentry": False})})
    inside, outside = [{1: 200}, {}, {2: 200}], [{1: 2}, {}, {2: 2}]
    for seen, reid, expected in ((inside, apart, 1), (outside, apart, 2), (outside, REID, 1)):
        lifted = [TrackedFrame(f.index, f.timestamp, lower(f.tracks), f.identities) for f in video(seen)]
        found = regroup(lifted, {1: RED[None], 2: RED[None]}, RegroupingConfig(), reid, (640, 480))
        assert found[2].identities.tolist() == [expected]


def lower(tracks: Tracks) -> Tracks:
    """Away from the upper border."""
    moved = tracks.boxes + np.array([0, 100, 0, 100], np.float32)
    return Tracks(tracks.ids, moved, tracks.scores, tracks.classes, tracks.detections)


def test_links_go_with_their_identity() -> None:
    frames = video([{1: 0}, {}, {2: 0}])
    link = Link(102, 2, 55, 0.1, 1.0, 0.0)
    frames[2] = TrackedFrame(2, 2.0, frames[2].tracks, frames[2].identities, (link,))
    found = regroup(frames, {1: RED[None], 2: RED[None]}, RegroupingConfig(), REID)
    assert [one.identity for one in found[2].links] == [1]


def test_a_book_of_looks_is_bounded_and_keeps_them_apart() -> None:
    book = EmbeddingHistory(3)
    for index in range(10):
        boxes, scores = np.zeros((2, 4), np.float32), np.ones(2, np.float32)
        looks = np.stack([RED, GREEN if index % 2 else BLUE])
        book.add(EmbeddedCrops(float(index), np.array([7, 9]), boxes, scores, looks, np.zeros((2, 4, 2, 3), np.uint8)))
    found = book.looks()
    assert {who: looks.shape for who, looks in found.items()} == {7: (3, 4), 9: (3, 4)}
    assert np.unique(found[9], axis=0).shape == (2, 4)
    nobody = np.empty((0, 4), np.float32)
    book.add(
        EmbeddedCrops(11.0, np.empty(0, np.int64), nobody, np.empty(0, np.float32), nobody, np.empty((0, 4, 2, 3)))
    )


@pytest.mark.parametrize(("changes", "has_book"), [({}, False), ({"regrouping": {}}, True)])
def test_looks_are_gathered_only_where_they_are_used(changes: dict[str, object], has_book: bool) -> None:
    assert (PostProcessor(load_config([changes])).book() is not None) == has_book
    off = PostProcessor(load_config([{**changes, "reid": {"policy": "off"}}]))
    assert off.book() is None
    assert bool(off) == has_book
    assert off(video([{1: 0}]))[0].identities.tolist() == [1]


def test_the_predicted_box_of_who_was_seen_in_the_frame_goes() -> None:
    frames = video([{1: 0}, {1: 0}, {1: 5, 2: 0}, {2: 0}], predicted=[(2, 1)])
    found = regroup(frames, {1: RED[None], 2: RED[None]}, RegroupingConfig(), REID)
    assert [frame.identities.tolist() for frame in found] == [[1], [1], [1], [1]]
    assert found[2].tracks.ids.tolist() == [102]


def test_every_absence_that_is_bridged_is_within_the_limit() -> None:
    seen = [{1: 0}, *[{} for _ in range(8)], {2: 0}, {1: 0}]
    assert joined(seen, {1: RED, 2: RED}, max_gap_s=5)[-2:] == [[2], [1]]
    assert joined(seen, {1: RED, 2: RED}, max_gap_s=10)[-2:] == [[1], [1]]

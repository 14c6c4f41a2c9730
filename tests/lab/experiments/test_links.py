from __future__ import annotations

import numpy as np

from motserve.lab.experiments.links import judge_links
from motserve.results import MotTable
from motserve.types import Link, TrackedFrame, Tracks

Row = tuple[int, int]
"""Track and identity."""


def place(person: int) -> list[float]:
    return [100.0 * person, 50.0, 100.0 * person + 40, 150.0]


def frame(index: int, rows: dict[int, Row], links: tuple[Link, ...] = ()) -> TrackedFrame:
    """Return a frame with a track on each of some people; person 0 is a place without a person."""
    n = len(rows)
    boxes = np.array([place(person) for person in rows], np.float32).reshape(n, 4)
    ids = np.array([track for track, _ in rows.values()], np.int64)
    tracks = Tracks(ids, boxes, np.ones(n, np.float32), np.zeros(n, np.int64), np.arange(n))
    return TrackedFrame(index, index / 10, tracks, np.array([identity for _, identity in rows.values()]), links)


def truth(people: list[list[int]]) -> MotTable:
    rows = [(index, person) for index, present in enumerate(people) for person in present]
    frames, ids = (np.array(column) for column in zip(*rows, strict=True))
    ltwh = np.array([[100.0 * person + 1, 51, 40, 100] for person in ids.tolist()])
    n = len(rows)
    return MotTable("gt", frames, ids, ltwh, np.ones(n, np.float32), np.ones(n, np.int64), np.ones(n), np.arange(n), 9)


def link(track: int, identity: int, previous_track: int) -> Link:
    return Link(track, identity, previous_track, 0.1, 1.0, 0.5)


def judged(people: list[list[int]], frames: list[TrackedFrame]) -> list[bool]:
    return [one.is_right for one in judge_links(frames, truth(people))]


def test_a_link_is_right_if_the_identity_belonged_to_the_person() -> None:
    before = [frame(k, {1: (1, 1), 2: (2, 2)}) for k in range(10)]
    people = [[1, 2]] * 10 + [[1]] * 10
    right = [frame(10, {1: (3, 1)}, (link(3, 1, 1),)), *(frame(k, {1: (3, 1)}) for k in range(11, 20))]
    wrong = [frame(10, {1: (3, 2)}, (link(3, 2, 2),)), *(frame(k, {1: (3, 2)}) for k in range(11, 20))]
    assert judged(people, before + right) == [True]
    assert judged(people, before + wrong) == [False]


def test_an_id_switch_of_the_tracker_does_not_make_a_link_wrong() -> None:
    """Track 1 switches from the first person to the second."""
    before = [frame(k, {1 if k < 20 else 2: (1, 1)}) for k in range(30)]
    people = [[1]] * 20 + [[2]] * 10
    for person, is_right in ((1, True), (2, True), (3, False)):
        after = [frame(30, {person: (5, 1)}, (link(5, 1, 1),)), frame(31, {person: (5, 1)})]
        assert judged([*people, [person], [person]], before + after) == [is_right]


def test_a_link_of_a_false_track_is_wrong() -> None:
    before = [frame(k, {1: (1, 1)}) for k in range(5)]
    after = [frame(k, {7: (5, 1)}, (link(5, 1, 1),) if k == 5 else ()) for k in range(5, 8)]
    assert judged([[1]] * 5 + [[2]] * 3, before + after) == [False]


def test_without_links_there_are_no_judgements() -> None:
    assert judge_links([frame(0, {1: (1, 1)})], truth([[1]])) == []
    assert judge_links([], truth([[1]])) == []

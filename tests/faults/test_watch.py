"""What counts as harm to a video."""

from __future__ import annotations

from typing import Any

from faults.__main__ import chosen
from faults.inject import FAULTS
from faults.watch import Difference, difference, frames_of


def frame(number: int, **people: float) -> dict[str, Any]:
    tracks = [{"id": name, "box": [left, 0.0, left + 10, 20.0]} for name, left in people.items()]
    return {"frame": number, "tracks": tracks}


EXPECTED = [frame(0, a=0), frame(1, a=1, b=50), frame(2, b=51)]


def test_equal_frames_do_not_differ_and_networks_may_round() -> None:
    rounded = [frame(0, a=0.01), frame(1, b=50, a=1), frame(2, b=51.2)]
    assert difference(rounded, EXPECTED) == Difference()


def test_lost_and_doubled_frames_are_counted() -> None:
    assert difference([EXPECTED[0], EXPECTED[0], EXPECTED[2]], EXPECTED) == Difference(lost=1, doubled=1, changed=2)


def test_people_with_another_identity_or_place_are_counted() -> None:
    others = [frame(0, c=0), frame(1, a=1, b=60), frame(2)]
    assert difference(others, EXPECTED) == Difference(changed=2 + 1 + 1)


def test_lines_are_read() -> None:
    assert frames_of('{"frame": 0, "tracks": []}\n{"frame": 1, "tracks": []}\n') == [frame(0), frame(1)]


def test_faults_are_chosen_by_words() -> None:
    assert chosen([]) == FAULTS
    assert {fault.part for fault in chosen(["stop"])} >= {"session", "worker", "head"}
    assert [(fault.name, fault.part) for fault in chosen(["kill detector", "disk full"])] == [
        ("kill", "detector"),
        ("full", "disk"),
    ]
    assert len({(fault.name, fault.part) for fault in FAULTS}) == len(FAULTS)

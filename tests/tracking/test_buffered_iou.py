from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motserve.config import BufferedIouConfig
from motserve.tracking.buffered_iou import match_buffered
from motserve.types import FloatArray

LONG_AGO = 100.0


def person(left: float, top: float = 10, width: float = 40, height: float = 100) -> FloatArray:
    return np.array([[left], [top], [left + width], [top + height]], np.float32)


def matches(track: FloatArray, detection: FloatArray, since: float = LONG_AGO, **changes: Any) -> bool:
    rows, columns = match_buffered(track, np.array([since]), detection, BufferedIouConfig(**changes))
    return bool(rows.size and columns.size)


@pytest.mark.parametrize(("dx", "dy"), [(60, 0), (-60, 0), (0, 150), (0, -150)])
def test_the_cost_is_that_of_the_enlarged_boxes(dx: float, dy: float) -> None:
    """Half of its size on each side doubles a box: 80 x 200, of which a quarter overlaps, an IoU of 1 / 7."""
    detection = person(dx, 10 + dy)
    assert matches(person(0), detection, match_distance=6 / 7 + 1e-6)
    assert not matches(person(0), detection, match_distance=6 / 7 - 1e-6)


def test_boxes_of_two_sizes_are_enlarged_by_their_own() -> None:
    """Boxes of 80 x 200 and 120 x 240 with the same left and top border."""
    detection = person(10, 20, width=60, height=120)
    iou = 80 * 200 / (120 * 240)
    assert matches(person(0), detection, match_distance=1 - iou + 1e-6)
    assert not matches(person(0), detection, match_distance=1 - iou - 1e-6)


def test_enlarged_boxes_that_only_touch_do_not_match() -> None:
    assert not matches(person(0), person(80), match_distance=1)
    assert matches(person(0), person(79.75), match_distance=1)
    assert not matches(person(0), person(0, 210), match_distance=1)


def test_the_largest_ratio_of_heights_is_allowed_in_both_directions() -> None:
    for one, other in ((100, 150), (150, 100)):
        assert matches(person(0, height=one), person(0, height=other), height_ratio=1.5)
        assert not matches(person(0, height=one), person(0, height=other), height_ratio=1.49)


def test_a_box_grows_with_time_up_to_the_largest_expansion() -> None:
    for since, farthest in ((0.1, 48), (0.5, 80), (LONG_AGO, 80)):
        for distance, expected in ((farthest - 1, True), (farthest + 1, False)):
            assert matches(person(0), person(distance), since, match_distance=1, speed=1.0) is expected


def test_a_track_far_away_does_not_disturb_a_match() -> None:
    tracks = np.concatenate([person(5000), person(0)], axis=1)
    rows, columns = match_buffered(tracks, np.array([LONG_AGO] * 2), person(10), BufferedIouConfig())
    assert (rows.tolist(), columns.tolist()) == ([1], [0])


def test_only_allowed_pairs_are_matched() -> None:
    tracks = np.concatenate([person(0), person(50)], axis=1)
    since = np.array([LONG_AGO, LONG_AGO])
    for allowed, expected in (([[True, True], [True, True]], [0, 1]), ([[False, True], [True, False]], [1, 0])):
        rows, columns = match_buffered(tracks, since, tracks, BufferedIouConfig(match_distance=1), np.array(allowed))
        assert columns[np.argsort(rows)].tolist() == expected
    rows, _ = match_buffered(person(0), since[:1], person(0, height=300), BufferedIouConfig(), np.array([[True]]))
    assert rows.size == 0, "an allowed pair needs similar heights too"

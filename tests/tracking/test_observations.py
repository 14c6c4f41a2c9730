from __future__ import annotations

import numpy as np
import pytest
from tracker_streams import make

from motserve.tracking.observations import observe

BOX = [100.0, 100.0, 140.0, 200.0]
LARGEST = 2.0**24


def test_a_box_has_its_corners_centre_and_size() -> None:
    left_above = [-60.0, -100.0, -20.0, -20.0]
    observations = observe(make([left_above, BOX], [0.5, 0.9]), 0.1)
    assert observations.rows.tolist() == [1, 0]
    assert observations.boxes.T.tolist() == [BOX, left_above]
    assert observations.centre.T.tolist() == [[120, 150], [-40, -60]]
    assert observations.size.T.tolist() == [[40, 100], [40, 80]]


def test_a_score_at_the_threshold_counts_and_one_at_the_lower_threshold_does_not() -> None:
    observations = observe(make([BOX] * 4, [0.25, 0.5, 0.75, 0.4]), 0.25)
    assert observations.rows.tolist() == [2, 1, 3]
    assert observations.from_score(0.5) == 2


def test_scores_of_zero_and_one_are_valid() -> None:
    assert observe(make([BOX] * 2, [0, 1]), 0.0).rows.tolist() == [1]


def test_the_largest_and_the_smallest_box_are_valid() -> None:
    boxes = [[-LARGEST, -LARGEST, LARGEST, LARGEST], [0, 0, 0.001, 0.001]]
    assert observe(make(boxes, [0.9, 0.8]), 0.1).rows.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([0, 0, np.nan, 10], "is not finite"),
        ([0, 0, 2 * LARGEST, 10], "reaches beyond 16777216 pixels"),
        ([0, 0, LARGEST, 0], "has no area; right must be above left and bottom above top"),
    ],
)
def test_a_bad_box_is_refused_with_its_reason(box: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^detection 1 has box .*, which {reason}$"):
        observe(make([BOX, box], [0.8, 0.9]), 0.1)


EQUALLY_CONFIDENT = [
    ([0, 0, 10, 10], 0.5, 0),
    ([0, 0, 10, 10], 0.5, 1),
    ([0, 0, 10, 20], 0.5, 0),
    ([0, 0, 20, 10], 0.5, 0),
    ([0, 5, 10, 10], 0.5, 0),
    ([5, 0, 10, 10], 0.5, 0),
]


@pytest.mark.parametrize("shift", range(6))
@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("first", [[], [([9, 9, 20, 20], 0.75, 0)]])
def test_among_equal_scores_boxes_and_classes_decide(
    shift: int, is_reversed: bool, first: list[tuple[list[int], float, int]]
) -> None:
    rows = first + EQUALLY_CONFIDENT
    order = np.roll(range(len(rows)), shift)[:: -1 if is_reversed else 1]
    observations = observe(make(*zip(*(rows[row] for row in order), strict=True)), 0.1)
    assert order[observations.rows].tolist() == list(range(len(rows)))
    assert observations.boxes.T.tolist() == [box for box, _, _ in rows]
    assert observations.classes.tolist() == [label for _, _, label in rows]

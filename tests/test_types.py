from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from motserve.types import Detections, Tracks


def test_detections_count_their_rows() -> None:
    detections = Detections(np.zeros((3, 4), np.float32), np.zeros(3, np.float32), np.zeros(3, np.int64))
    assert len(detections) == 3


def test_empty_detections_and_tracks_have_the_usual_shapes() -> None:
    detections, tracks = Detections.empty(), Tracks.empty()
    assert len(detections) == len(tracks) == 0
    assert detections.boxes.shape == tracks.boxes.shape == (0, 4)
    assert detections.boxes.dtype == tracks.scores.dtype == np.float32
    assert detections.classes.dtype == tracks.ids.dtype == tracks.detections.dtype == np.int64


@pytest.mark.parametrize(
    ("boxes", "scores", "classes"),
    [((2, 4), (3,), (2,)), ((2, 4), (2,), (1,)), ((2, 5), (2,), (2,)), ((8,), (8,), (8,)), ((2, 4), (2, 1), (2,))],
)
def test_arrays_of_different_lengths_are_refused(
    boxes: tuple[int, ...], scores: tuple[int, ...], classes: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"boxes \(n, 4\)"):
        Detections(np.zeros(boxes, np.float32), np.zeros(scores, np.float32), np.zeros(classes, np.int64))


def test_detections_cannot_be_reassigned() -> None:
    with pytest.raises(FrozenInstanceError):
        Detections.empty().scores = np.zeros(1, np.float32)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("boxes", "scores", "classes", "said"),
    [
        ([[0, 0, 1, 1]], [0.5], [0.5], "classes of detections must be whole numbers"),
        ([[0, 0, 1, 1]], ["high"], [0], "scores of detections must be an array or a list of numbers"),
        ([[0, 0, 1], [1]], [0.5], [0], "boxes of detections must be an array or a list of numbers"),
        (None, [0.5], [0], "boxes of detections"),
        (1, 2, 3, r"boxes \(n, 4\)"),
    ],
)
def test_columns_that_are_no_numbers_are_refused(boxes: Any, scores: Any, classes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Detections(boxes, scores, classes)


def test_lists_and_other_numbers_become_the_types_of_the_columns() -> None:
    lists: Any = ([[0, 0, 1, 1.5]], [1], [2])
    arrays: Any = (np.array(lists[0]), np.array([True]), np.array([2.0]))
    for columns in (lists, arrays):
        detections = Detections(*columns)
        assert detections.boxes.dtype == detections.scores.dtype == np.float32
        assert detections.classes.dtype == np.int64
        assert (detections.boxes.tolist(), detections.scores.tolist(), detections.classes.tolist()) == lists
    nothing: Any = []
    assert Detections(nothing, nothing, nothing).boxes.shape == (0, 4)

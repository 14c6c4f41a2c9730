from __future__ import annotations

from dataclasses import FrozenInstanceError

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

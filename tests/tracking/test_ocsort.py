from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tracker_streams import RATE, make, person, track_stream

from motserve.config import OcSortConfig
from motserve.tracking import OcSort
from motserve.types import Detections

# --- re-update --------------------------------------------------------------------------------------------------------

Box = NDArray[np.float64]


def between(start: Box, stop: Box, share: float) -> Box:
    return (1 - share) * start + share * stop


def crowd(*boxes: Box) -> Detections:
    return make(boxes, [0.9] * len(boxes))


@pytest.mark.parametrize("uneven", [0.0, 0.3])
def test_a_lost_track_that_returns_has_the_motion_of_one_observed_on_a_straight_line(uneven: float) -> None:
    """The oracle is a tracker that gets boxes on the lines between the last and the next observations."""
    frames = range(10)
    one, two = (
        [np.array([left + 4 * frame, 100, left + 40 + 4 * frame, 200 + frame]) for frame in frames]
        for left in (100.0, 400.0)
    )
    one_back, two_back = np.array([150.0, 105, 195, 215]), np.array([460.0, 100, 490, 190])
    lost, observed = OcSort(OcSortConfig()), OcSort(OcSortConfig())
    for frame in frames:
        lost.update(crowd(one[frame], two[frame]), frame / RATE)
        observed.update(crowd(one[frame], two[frame]), frame / RATE)
    # the first is missed in four frames, the second in the last two of them
    for missed in range(4):
        first = between(one[-1], one_back, (missed + 1) / 5)
        if missed < 2:
            two.append(two[-1] + np.array([4.0, 0, 4, 0]))
            second = two[-1]
            lost.update(crowd(second), (10 + missed) / RATE)
        else:
            second = between(two[-1], two_back, (missed - 1) / 3)
            lost.update(Detections.empty(), (10 + missed + uneven) / RATE)
        observed.update(crowd(first, second), (10 + missed) / RATE)
    for tracker in (lost, observed):
        assert tracker.update(crowd(one_back, two_back), 14 / RATE).ids.tolist() == [1, 2]
    motion, expected = (np.asarray(tracker.state_dict()["motion"], np.float64) for tracker in (lost, observed))
    np.testing.assert_allclose(motion, expected, rtol=1e-5, atol=1e-4)


# --- momentum ---------------------------------------------------------------------------------------------------------


def direction_after(*centres: tuple[float, float] | None, frames: int = 3) -> list[float]:
    tracker = OcSort(OcSortConfig(direction_frames=frames))
    for index, centre in enumerate(centres):
        tracker.update(Detections.empty() if centre is None else person(centre[0], y=centre[1]), index / RATE)
    direction = tracker.state_dict()["direction"]
    assert direction.shape == (2, 1)
    values: list[float] = direction[:, 0].tolist()
    return values


def test_the_direction_spans_the_configured_number_of_frames() -> None:
    assert np.isnan(direction_after((100, 100))).all(), "one observation has no direction"
    assert direction_after((100, 100), (103, 104)) == pytest.approx([0.6, 0.8])
    turn = [(100.0, 100.0), (104.0, 100.0), (108.0, 100.0), (112.0, 100.0), (112.0, 104.0), (112.0, 108.0)]
    assert direction_after(*turn[:5]) == pytest.approx([8 / 80**0.5, 4 / 80**0.5])  # from the second to the fifth
    assert direction_after(*turn) == pytest.approx([4 / 80**0.5, 8 / 80**0.5])
    assert direction_after(*turn, frames=1) == pytest.approx([0, 1])
    assert direction_after(*[(100.0, 100.0)] * 4) == [0, 0], "a person who stands has none either"


def test_the_direction_after_a_missed_frame_starts_at_the_latest_observation_that_is_old_enough() -> None:
    walk = [(100.0, 100.0), (100.0, 104.0), None, (104.0, 104.0)]
    assert direction_after(*walk) == pytest.approx([0.5**0.5, 0.5**0.5])
    assert direction_after(*walk, (108.0, 104.0)) == pytest.approx([1, 0])


def test_a_detection_in_the_direction_of_the_track_is_preferred() -> None:
    """A box 6 pixels behind the prediction is nearer than one 8 pixels before it, but against the direction."""
    for weight, expected in ((0.0, 0), (0.2, 1)):
        tracker = OcSort(OcSortConfig(direction_weight=weight))
        track_stream(tracker, [person(100 + index) for index in range(20)])
        behind, before = person(120 - 6), person(120 + 8)
        both = make(np.concatenate([behind.boxes, before.boxes]), [0.9, 0.9])
        assert tracker.update(both, 20 / RATE).detections.tolist() == [expected]


@pytest.mark.parametrize("sense", [1, -1])
def test_a_walk_along_a_line_has_an_angle_whatever_the_rounding(sense: int) -> None:
    """In float32 the cosine of some of these directions with themselves is above 1."""
    for angle in np.linspace(0, 2 * np.pi, 100):
        tracker = OcSort(OcSortConfig())
        for index, place in enumerate((0, 3, 6, 9, 9 + 3 * sense)):
            x, y = 500 + place * np.cos(angle), 500 + place * np.sin(angle)
            assert tracker.update(person(x, y=y), index / RATE).ids.tolist() == [1]


# --- recovery ---------------------------------------------------------------------------------------------------------


def after_a_stop(config: OcSortConfig, detections: Detections) -> list[int]:
    """Return the matched detections after a person who runs 20 pixels a frame stops, two frames later."""
    tracker = OcSort(config)
    track_stream(tracker, [person(20.0 * index) for index in range(20)])
    tracker.update(Detections.empty(), 20 / RATE)
    answer: list[int] = tracker.update(detections, 21 / RATE).detections.tolist()
    return answer


def test_a_lost_track_is_matched_by_its_last_observation() -> None:
    assert after_a_stop(OcSortConfig(), person(380)) == [0]
    # the overlap of 0.25 x 40 pixels is an IoU of 1 / 7
    assert after_a_stop(OcSortConfig(match_distance=6 / 7 + 0.001), person(350)) == [0]
    assert after_a_stop(OcSortConfig(match_distance=6 / 7 - 0.001), person(350)) == []


def test_a_state_without_the_number_of_the_frame_is_refused() -> None:
    tracker = OcSort(OcSortConfig())
    state = tracker.state_dict()
    del state["frame"]
    with pytest.raises(ValueError, match=r"^state has no 'frame'; it was not written by this tracker$"):
        tracker.load_state_dict(state)

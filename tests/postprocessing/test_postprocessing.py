from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked_frames import lefts, video
from tracker_streams import HARD, PUBLISHED, RATE, track_stream

from motserve.config import InterpolationConfig
from motserve.lab.benchmark.streams import crowd_stream
from motserve.postprocessing import fill_gaps
from motserve.tracking import ByteTrack
from motserve.types import INTERPOLATED, NO_DETECTION, TrackedFrame


def test_gaps_are_filled_on_a_straight_line_in_time() -> None:
    times = [0.0, 0.1, 0.3, 0.4, 0.5]
    seen = video([[(1, 0, 0.9)], [(2, 7, 0.5)], [], [], [(1, 50, 0.7)]], times)
    filled = fill_gaps(seen, InterpolationConfig())
    assert lefts(filled, 1) == pytest.approx({0: 0, 1: 10, 2: 30, 3: 40, 4: 50})
    assert lefts(filled, 2) == {1: 7}
    between = filled[2].tracks
    assert between.detections.tolist() == [INTERPOLATED]
    assert between.scores[0] == np.float32(0.7)
    assert (between.ids.tolist(), filled[2].identities.tolist()) == ([101], [1])
    assert not between.measured.any()
    assert filled[1].identities.tolist() == [1, 2]
    assert filled[1].tracks.measured.tolist() == [False, True]


@pytest.mark.parametrize(("longest", "filled"), [(0.0, 0), (0.29, 0), (0.31, 2), (10.0, 2)])
def test_longer_gaps_are_not_filled(longest: float, filled: int) -> None:
    seen = video([[(1, 0, 0.9)], [], [], [(1, 30, 0.9)]])
    found = fill_gaps(seen, InterpolationConfig(max_gap_s=longest))
    assert sum(len(frame.tracks) for frame in found) == 2 + filled


def test_no_people_and_no_frames() -> None:
    assert fill_gaps([], InterpolationConfig(smoothing_s=0.1)) == []
    assert [len(frame.tracks) for frame in fill_gaps(video([[], []]), InterpolationConfig(smoothing_s=0.1))] == [0, 0]
    alone = fill_gaps(video([[(1, 5, 0.9)]]), InterpolationConfig(smoothing_s=0.1))
    assert lefts(alone, 1) == {0: 5}


def test_smoothing_reduces_noise_without_lag() -> None:
    random = np.random.default_rng(0)
    straight = 8.0 * np.arange(60)
    noisy = straight + random.normal(0, 3, 60)
    seen = video([[(1, left, 0.9)] for left in noisy])
    smooth = np.array(list(lefts(fill_gaps(seen, InterpolationConfig(smoothing_s=0.3)), 1).values()))
    assert np.abs(smooth - straight).std() < 0.6 * np.abs(noisy - straight).std()
    assert abs((smooth - straight)[[0, -1]]).max() < 6
    exact = fill_gaps(video([[(1, left, 0.9)] for left in straight]), InterpolationConfig(smoothing_s=0.3))
    np.testing.assert_allclose(list(lefts(exact, 1).values()), straight, atol=1e-3)


@pytest.mark.parametrize("deviation", [0.05, 0.5, 5.0])
def test_smoothing_does_not_change_a_constant_speed(deviation: float) -> None:
    times = np.cumsum([1 / 30] * 20 + [0.2] * 10 + [1 / 30] * 5).tolist()
    seen = video([[(1, 100 * now, 0.9)] for now in times], times)
    found = fill_gaps(seen, InterpolationConfig(smoothing_s=deviation))
    np.testing.assert_allclose(list(lefts(found, 1).values()), 100 * np.array(times), atol=1e-2)


def test_smoothed_boxes_are_valid() -> None:
    seen = video([[(1, 100, 0.9)]] * 10)
    for index in (0, 9):
        seen[index].tracks.boxes[0, 2] = 101
    for deviation in (0.1, 1.0, 10.0):
        for frame in fill_gaps(seen, InterpolationConfig(smoothing_s=deviation)):
            assert (frame.tracks.boxes[:, 2:] > frame.tracks.boxes[:, :2]).all()


def test_predicted_boxes_do_not_end_gaps_and_give_way_to_interpolated_ones() -> None:
    seen = video([[(1, 0, 0.9)], [(1, 500, 0)], [], [(1, 30, 0.9)], [(1, 700, 0)]])
    for index in (1, 4):
        seen[index].tracks.detections[0] = NO_DETECTION
    found = fill_gaps(seen, InterpolationConfig())
    assert lefts(found, 1) == pytest.approx({0: 0, 1: 10, 2: 20, 3: 30, 4: 700})
    assert [frame.tracks.detections.tolist() for frame in found] == [
        [0], [INTERPOLATED], [INTERPOLATED], [0], [NO_DETECTION],
    ]  # fmt: skip


def test_segments_are_smoothed_independently() -> None:
    """Two people, and one who returns elsewhere after a gap too long to fill."""
    seen = video([[(1, 0, 0.9), (2, 500, 0.9)]] * 5 + [[]] * 20 + [[(1, 300, 0.9)]] * 5)
    found = fill_gaps(seen, InterpolationConfig(smoothing_s=1.0))
    assert set(lefts(found, 1).values()) == {0, 300}
    assert set(lefts(found, 2).values()) == {500}


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(0, 12), smooth=st.sampled_from([0, 0.1]))
def test_detected_rows_stay_and_identities_are_unique_in_a_frame(seed: int, people: int, smooth: float) -> None:
    answers = track_stream(ByteTrack(PUBLISHED, RATE), crowd_stream(people, 60, seed, HARD))
    frames = [TrackedFrame(index, index / RATE, tracks, tracks.ids) for index, tracks in enumerate(answers)]
    filled = fill_gaps(frames, InterpolationConfig(smoothing_s=smooth))
    for before, after in zip(frames, filled, strict=True):
        assert after.identities.tolist() == sorted(set(after.identities.tolist()))
        real = after.tracks.detections >= 0
        assert after.identities[real].tolist() == before.identities.tolist()
        np.testing.assert_array_equal(after.tracks.scores[real], before.tracks.scores)
        if not smooth:
            np.testing.assert_array_equal(after.tracks.boxes[real], before.tracks.boxes)
    for identity in {one for frame in filled for one in frame.identities.tolist()}:
        places = list(lefts(filled, identity))
        gaps = np.diff([place / RATE for place in places])
        assert ((gaps < 1.5 / RATE) | (gaps > 1.0)).all()

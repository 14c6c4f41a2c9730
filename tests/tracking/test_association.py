from __future__ import annotations

import lap
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from ultralytics.utils.metrics import bbox_ioa

from motserve.tracking.association import assign, find_candidates, match
from motserve.tracking.boxes import _sweep, _test_all, overlapping_pairs


def random_boxes(random: np.random.Generator, count: int, extent: float = 500) -> NDArray[np.float32]:
    corner = random.uniform(0, extent, (2, count))
    return np.concatenate([corner, corner + random.uniform(10, 200, (2, count))]).astype(np.float32)


def total_gain(cost: NDArray[np.float64], limit: float, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    return float((limit - cost[rows, columns]).sum())


@pytest.mark.parametrize("least", [0.0, 0.2, 0.85])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (40, 60)])
def test_overlapping_pairs_equal_the_dense_iou_of_the_reference(shape: tuple[int, int], least: float) -> None:
    random = np.random.default_rng(sum(shape))
    a = random_boxes(random, shape[0])
    b = np.concatenate([random_boxes(random, shape[1] // 2), a[:, : shape[1] - shape[1] // 2] + 2], axis=1)
    rows, columns, iou = overlapping_pairs(a, b, least)
    dense = np.zeros((a.shape[1], b.shape[1]), np.float32)
    dense[rows, columns] = iou
    expected = bbox_ioa(a.T, b.T, iou=True) if dense.size else dense
    np.testing.assert_array_equal(dense[expected > least], expected[expected > least])
    assert (expected[dense == 0] <= max(least, 0)).all()


@pytest.mark.parametrize("shift", [(10, 0), (-10, 0), (0, 10), (0, -10)])
def test_boxes_that_only_touch_do_not_overlap(shift: tuple[int, int]) -> None:
    a = np.array([[0], [0], [10], [10]], np.float32)
    rows, columns, iou = overlapping_pairs(a, a + np.array([shift * 2], np.float32).T)
    assert rows.size == columns.size == iou.size == 0
    assert iou.dtype == np.float32


def test_tiny_boxes_have_the_iou_of_the_reference() -> None:
    a = random_boxes(np.random.default_rng(0), 8) * np.float32(1e-5)
    rows, columns, iou = overlapping_pairs(a, a)
    np.testing.assert_allclose(iou, bbox_ioa(a.T, a.T, iou=True)[rows, columns], rtol=1e-5)


def test_no_iou_is_negative() -> None:
    """A width that is rounded up reaches beyond the box, to another box that ends just before it."""
    left = np.linspace(-0.2, -0.1, 50)
    a = np.stack([left, 0 * left, 0 * left + 1100, 0 * left + 10]).astype(np.float32)
    b = np.stack([left - 9, 0 * left, left - 1e-5, 0 * left + 10]).astype(np.float32)
    for column in range(50):
        _, _, iou = overlapping_pairs(a[:, [column]], b[:, [column]])
        assert (iou >= 0).all()


def test_of_many_boxes_each_touches_its_neighbours_and_overlaps_itself() -> None:
    corner = np.mgrid[:25, :20].reshape(2, -1) * 10
    boxes = np.concatenate([corner, corner + 10]).astype(np.float32)
    rows, columns, iou = overlapping_pairs(boxes, boxes)
    assert rows.tolist() == columns.tolist() == list(range(500))
    np.testing.assert_allclose(iou, 1)


def test_of_many_boxes_the_widest_is_found_where_only_its_right_edge_overlaps() -> None:
    """In float32 its width is rounded down by more than the overlap."""
    ulp = 2.0**-17
    a, b = (np.array([[0], [1000], [1], [1001]], np.float32).repeat(500, axis=1) for _ in range(2))
    a[:, 0], b[:, 0] = [100 + 6 * ulp, 0, 116 + 6 * ulp, 10], [-1000, 0, 100 + 7 * ulp, 10]
    b[:, 1:] += 500
    rows, columns, iou = overlapping_pairs(a, b)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])
    assert iou[0] > 0


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    limit=st.sampled_from([0.3, 0.5, 0.8, 1.0]),
    decimals=st.sampled_from([1, 12]),
)
def test_assignment_is_optimal(seed: int, rows: int, columns: int, limit: float, decimals: int) -> None:
    random = np.random.default_rng(seed)
    cost = random.uniform(0, 1, (rows, columns)).round(decimals)  # one decimal makes ties
    listed = random.random(cost.shape) < 0.6
    i, j = np.nonzero(listed)
    found_rows, found_columns = assign(i, j, cost[i, j], limit)

    assert len(set(found_rows.tolist())) == found_rows.size
    assert len(set(found_columns.tolist())) == found_columns.size
    assert listed[found_rows, found_columns].all()
    assert (cost[found_rows, found_columns] <= limit).all()
    # The oracle: a dense solver that maximises the gain of the pairs; an unmatched row gains nothing.
    saved = np.where(listed, np.maximum(limit - cost, 0), 0)
    best = saved[linear_sum_assignment(saved, maximize=True)].sum()
    assert total_gain(cost, limit, found_rows, found_columns) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_assignment_equals_lapjv_with_a_cost_limit(seed: int) -> None:
    random = np.random.default_rng(seed)
    cost = random.uniform(0, 1, (30, 25))
    _, expected, _ = lap.lapjv(cost, extend_cost=True, cost_limit=0.3)
    i, j = np.nonzero(np.ones_like(cost))
    rows, columns = assign(i, j, cost.ravel(), 0.3)
    assigned = np.full(30, -1)
    assigned[rows] = columns
    np.testing.assert_array_equal(assigned, expected)


def test_a_pair_at_exactly_the_limit_matches_and_beyond_it_does_not() -> None:
    zero = np.zeros(1, np.int64)
    assert assign(zero, zero, np.array([0.5]), 0.5)[0].size == 1
    assert assign(zero, zero, np.array([np.nextafter(0.5, 1)]) + 1e-9, 0.5)[0].size == 0


@pytest.mark.parametrize("limit", [1.0, 2.0])
def test_of_two_equal_pairs_of_a_row_or_a_column_one_matches(limit: float) -> None:
    same, other = np.array([0, 0]), np.array([0, 1])
    for rows, columns in ((same, other), (other, same)):
        found_rows, found_columns = assign(rows, columns, np.array([0.1, 0.1]), limit)
        assert found_rows.size == found_columns.size == 1


def test_the_last_pair_matches_once_the_rivals_of_its_row_are_excluded() -> None:
    """Row 0 prefers column 1, which row 1 needs more; column 0 is left."""
    rows, columns = assign(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.8, 0.7, 0.0]), 1.0)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_the_only_candidate_does_not_match_beyond_the_limit() -> None:
    track, detection = np.array([[0], [0], [10], [10]], np.float32), np.array([[5], [0], [15], [10]], np.float32)
    candidates = find_candidates(track, detection, 0.9)
    assert candidates.cost == pytest.approx(2 / 3)
    assert match(candidates, 0.6)[0].size == 0
    assert match(candidates, 0.7)[0].size == 1


def test_nothing_to_match() -> None:
    none = np.empty((4, 0), np.float32)
    rows, columns = match(find_candidates(none, none, 0.8), 0.8)
    assert rows.size == columns.size == 0


def test_fusing_scores_prefers_the_confident_detection() -> None:
    track = np.array([[0], [0], [100], [100]], np.float32)
    detections = np.array([[5, 6], [0, 0], [105, 106], [100, 100]], np.float32)
    candidates = find_candidates(track, detections, 0.8)
    assert match(candidates, 0.8)[1].tolist() == [0]
    assert match(candidates, 0.8, np.array([0.5, 0.9], np.float32))[1].tolist() == [1]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), m=st.integers(1, 60), least=st.sampled_from([0, 0.2, 0.85])
)
def test_a_sweep_finds_the_same_pairs_as_testing_every_pair(seed: int, n: int, m: int, least: float) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(-200, 500, (2, n + m)).round(int(random.integers(0, 3)))
    size = random.uniform(0, 150, (2, n + m)) * random.choice([1, 1e-4, 20], n + m)
    both = np.concatenate([corners, corners + size]).astype(np.float32)
    slack = (both[2:, :n] - both[:2, :n]) * (1 - least)
    low, high = both[2:, :n] - slack, both[:2, :n] + slack
    for one, other in zip(_test_all(low, high, both[:, n:]), _sweep(low, high, both[:, n:]), strict=True):
        np.testing.assert_array_equal(one, other)

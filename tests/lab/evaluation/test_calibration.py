from __future__ import annotations

import numpy as np
import pytest

from motserve.config import CalibrationConfig, ReIDConfig
from motserve.errors import InvalidData
from motserve.lab.evaluation.calibration import Returns, simulate_returns


def embeddings_of(people: int, crops: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings, those of each person around one direction, and the identity of each."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 1, 64))
    centres /= np.linalg.norm(centres, axis=2, keepdims=True)
    embeddings = centres + spread * random.normal(size=(people, crops, 64)) / 8
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    return embeddings.reshape(-1, 64).astype(np.float32), np.repeat(np.arange(1, people + 1), crops)


def simulate(people: int = 30, crops: int = 8, spread: float = 0.5, **changes: object) -> Returns:
    embeddings, identities = embeddings_of(people, crops, spread)
    config = CalibrationConfig(**{"trials": 3000, **changes})  # type: ignore[arg-type]
    return simulate_returns(embeddings, identities, np.ones(len(identities), np.int64), ReIDConfig(), config)


def test_all_distinct_people_are_recognised_at_a_low_false_link_rate() -> None:
    threshold = simulate(spread=0.3).threshold(0.001)
    assert threshold is not None
    assert threshold.found == 1
    assert threshold.false_share <= 0.001
    assert 0.05 < threshold.distance < 0.9


def test_a_larger_share_of_false_links_allows_a_larger_distance() -> None:
    returns = simulate(spread=2.0)
    thresholds = [returns.threshold(rate) for rate in (0.01, 0.05, 0.2, 0.5)]
    assert all(thresholds)
    distances, found, wrong = zip(*[(t.distance, t.found, t.false_share) for t in thresholds if t], strict=True)
    assert list(distances) == sorted(distances)
    assert list(found) == sorted(found)
    assert all(share <= rate for share, rate in zip(wrong, (0.01, 0.05, 0.2, 0.5), strict=True))
    assert found[0] < found[-1]


def test_the_threshold_is_the_largest_that_keeps_the_share() -> None:
    returns = Returns(np.arange(1, 11) / 10, np.array([1, 1, 1, 0, 1, 1, 1, 0, 0, 0], bool), genuine=8, own=np.ones(1))
    for rate, distance, found in ((0.0, 0.3, 3 / 8), (0.15, 0.7, 6 / 8), (0.25, 0.8, 6 / 8), (0.9, 1.0, 6 / 8)):
        threshold = returns.threshold(rate)
        assert threshold is not None
        assert threshold.distance == pytest.approx(distance)
        assert threshold.found == pytest.approx(found)
    assert Returns(np.array([0.1]), np.array([False]), genuine=1, own=np.ones(1)).threshold(0.5) is None


def test_a_threshold_is_valid_for_other_people_of_the_same_distribution() -> None:
    embeddings, identities = embeddings_of(40, 8, 1.2)
    first, config = identities <= 20, CalibrationConfig(trials=5000)
    cameras = np.ones(len(identities), np.int64)
    parts = [
        simulate_returns(embeddings[rows], identities[rows], cameras[rows], ReIDConfig(), config)
        for rows in (first, ~first)
    ]
    threshold = parts[0].threshold(0.05)
    assert threshold is not None
    links = parts[1].distances <= threshold.distance
    assert links.any()
    assert np.mean(~parts[1].is_right[links]) < 0.12


def test_own_embeddings_are_nearer_than_the_contradiction() -> None:
    returns = simulate(spread=0.5)
    assert returns.contradiction(0.01) == pytest.approx(np.quantile(returns.own, 0.99))
    assert returns.contradiction(0.5) < returns.contradiction(0.01)
    wrong_distances = returns.distances[~returns.is_right]
    assert np.mean(wrong_distances > returns.contradiction(0.01)) > 0.95


def test_people_return_only_to_their_own_camera() -> None:
    """Embeddings of the two cameras differ; a return across cameras would have a large distance."""
    embeddings, identities = embeddings_of(24, 8, 0.2)
    cameras = np.tile([1, 1, 1, 1, 2, 2, 2, 2], 24)
    embeddings[cameras == 2] = embeddings[cameras == 2][:, ::-1]
    config = CalibrationConfig(trials=500)
    returns = simulate_returns(embeddings, identities, cameras, ReIDConfig(), config)
    threshold = returns.threshold(0.001)
    assert threshold is not None
    assert threshold.found == 1


def test_too_few_people_are_refused() -> None:
    with pytest.raises(InvalidData, match="more than 10 people with 2 crops"):
        simulate(people=10)
    with pytest.raises(InvalidData, match="more than 10 people with 2 crops"):
        simulate(crops=1)
    assert simulate(people=4, gallery_identities=3).genuine > 0


def test_the_same_seed_gives_the_same_returns() -> None:
    first, again, other = simulate(), simulate(), simulate(seed=1)
    np.testing.assert_array_equal(first.distances, again.distances)
    assert not np.array_equal(first.distances, other.distances)

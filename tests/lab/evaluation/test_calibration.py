from __future__ import annotations

import numpy as np
import pytest

from motserve.config import CalibrationConfig, ReIDConfig
from motserve.errors import InvalidData
from motserve.lab.evaluation.calibration import Returns, simulate_returns


def random_embeddings(people: int, crops: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of people, the crops of each around a direction of their own, and who is on each."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 1, 64))
    centres /= np.linalg.norm(centres, axis=2, keepdims=True)
    embeddings = centres + spread * random.normal(size=(people, crops, 64)) / 8
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    return embeddings.reshape(-1, 64).astype(np.float32), np.repeat(np.arange(1, people + 1), crops)


def play(people: int = 30, crops: int = 8, spread: float = 0.5, **changes: object) -> Returns:
    embeddings, identities = random_embeddings(people, crops, spread)
    config = CalibrationConfig(**{"trials": 3000, **changes})  # type: ignore[arg-type]
    return simulate_returns(embeddings, identities, np.ones(len(identities), np.int64), ReIDConfig(), config)


def test_distinct_people_are_all_recognised_at_any_rate() -> None:
    threshold = play(spread=0.3).threshold(0.001)
    assert threshold is not None
    assert threshold.found == 1
    assert threshold.false_share <= 0.001
    assert 0.05 < threshold.distance < 0.9


def test_a_larger_share_of_false_links_allows_a_larger_distance() -> None:
    returns = play(spread=2.0)
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


def test_a_threshold_holds_for_other_people_of_the_same_kind() -> None:
    embeddings, identities = random_embeddings(40, 8, 1.2)
    first, config = identities <= 20, CalibrationConfig(trials=5000)
    places = np.ones(len(identities), np.int64)
    parts = [
        simulate_returns(embeddings[rows], identities[rows], places[rows], ReIDConfig(), config)
        for rows in (first, ~first)
    ]
    threshold = parts[0].threshold(0.05)
    assert threshold is not None
    links = parts[1].distances <= threshold.distance
    assert links.any()
    assert np.mean(~parts[1].is_right[links]) < 0.12


def test_own_embeddings_are_nearer_than_the_contradiction() -> None:
    returns = play(spread=0.5)
    assert returns.contradiction(0.01) == pytest.approx(np.quantile(returns.own, 0.99))
    assert returns.contradiction(0.5) < returns.contradiction(0.01)
    impostors = returns.distances[~returns.is_right]
    assert np.mean(impostors > returns.contradiction(0.01)) > 0.95


def test_people_come_only_to_their_own_place() -> None:
    """Two cameras shift all that they see another way; a return that crossed them would be far."""
    embeddings, identities = random_embeddings(24, 8, 0.2)
    places = np.tile([1, 1, 1, 1, 2, 2, 2, 2], 24)
    embeddings[places == 2] = embeddings[places == 2][:, ::-1]
    config = CalibrationConfig(trials=500)
    returns = simulate_returns(embeddings, identities, places, ReIDConfig(), config)
    threshold = returns.threshold(0.001)
    assert threshold is not None
    assert threshold.found == 1


def test_too_few_people_are_refused() -> None:
    with pytest.raises(InvalidData, match="more than 10 people with 2 crops"):
        play(people=10)
    with pytest.raises(InvalidData, match="more than 10 people with 2 crops"):
        play(crops=1)
    assert play(people=4, gallery_identities=3).genuine > 0


def test_the_same_seed_gives_the_same_returns() -> None:
    first, again, other = play(), play(), play(seed=1)
    np.testing.assert_array_equal(first.distances, again.distances)
    assert not np.array_equal(first.distances, other.distances)

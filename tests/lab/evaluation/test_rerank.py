from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from motserve.config import RerankConfig
from motserve.errors import InvalidData
from motserve.lab.evaluation.rerank import rerank_rows
from motserve.reid.normalise import unit_length


def clusters(seed: int, people: int, crops: int, dimension: int = 16, scatter: float = 0.6) -> np.ndarray:
    """Embeddings of some people, in random order."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, dimension))
    rows = centres[random.integers(0, people, crops)] + scatter * random.normal(size=(crops, dimension))
    return unit_length(rows.astype(np.float32))


def rerank(query: np.ndarray, gallery: np.ndarray, config: RerankConfig, batch: int = 64) -> np.ndarray:
    return np.concatenate(list(rerank_rows(query, gallery, config, batch)))


def dense(query: np.ndarray, gallery: np.ndarray, config: RerankConfig) -> np.ndarray:
    """The published algorithm of Zhong et al.: loops over matrices of all pairs."""
    crops = np.concatenate([query, gallery]).astype(np.float64)
    count = len(crops)
    squared = np.array([((crops - crop) ** 2).sum(axis=1) for crop in crops])
    original = (squared / squared.max(axis=0)).T.astype(np.float32)
    ranking = np.argsort(squared.astype(np.float32), axis=1, kind="stable")

    def reciprocal(crop: int, k: int) -> list[int]:
        return [other for other in ranking[crop, : k + 1] if crop in ranking[other, : k + 1]]

    halves = [reciprocal(crop, int(np.around(config.k1 / 2))) for crop in range(count)]
    encoding = np.zeros((count, count))
    for crop in range(count):
        near = reciprocal(crop, config.k1)
        members = set(near)
        for candidate in near:
            theirs = halves[candidate]
            if len(set(theirs) & set(near)) > 2 / 3 * len(theirs):
                members |= set(theirs)
        for member in members:
            encoding[crop, member] = np.exp(-original[crop, member])
        encoding[crop] /= encoding[crop].sum()
    if config.k2 > 1:
        encoding = np.array([encoding[ranking[crop, : config.k2]].mean(axis=0) for crop in range(count)])

    jaccard = np.zeros((len(query), len(gallery)))
    for q in range(len(query)):
        for g in range(len(gallery)):
            shared = np.minimum(encoding[q], encoding[len(query) + g]).sum()
            jaccard[q, g] = 1 - shared / (2 - shared)
    weight = config.original_weight
    return (1 - weight) * jaccard + weight * original[: len(query), len(query) :]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("k1", "k2", "weight"),
    [
        (20, 6, 0.3),
        (20, 6, 0.0),
        (20, 6, 1.0),
        (7, 3, 0.3),
        (5, 1, 0.5),
        (1, 1, 0.1),
        (3, 12, 0.3),  # more neighbours to average than to encode
        (400, 6, 0.3),  # more neighbours than crops
        (20, 400, 0.3),
    ],
)
def test_distances_equal_those_of_the_dense_algorithm(seed: int, k1: int, k2: int, weight: float) -> None:
    config = RerankConfig(k1=k1, k2=k2, original_weight=weight)
    crops = clusters(seed, people=9, crops=130)
    query, gallery = crops[:30], crops[30:]
    np.testing.assert_allclose(rerank(query, gallery, config), dense(query, gallery, config), atol=1e-5)


@pytest.mark.parametrize("scatter", [0.1, 2.0])
def test_distances_equal_those_of_the_dense_algorithm_at_any_scatter(scatter: float) -> None:
    crops = clusters(5, people=12, crops=200, scatter=scatter)
    query, gallery = crops[:40], crops[40:]
    config = RerankConfig()
    np.testing.assert_allclose(rerank(query, gallery, config), dense(query, gallery, config), atol=1e-5)


def test_no_distance_depends_on_the_batch() -> None:
    crops = clusters(0, people=9, crops=130)
    alone, some, all_at_once = (rerank(crops[:30], crops[30:], RerankConfig(), batch) for batch in (1, 7, 1000))
    np.testing.assert_array_equal(alone, all_at_once)
    np.testing.assert_array_equal(some, all_at_once)


def test_blocks_hold_a_batch_of_queries_each() -> None:
    crops = clusters(0, people=9, crops=60)
    parts = list(rerank_rows(crops[:20], crops[20:], RerankConfig(), 8))
    assert [part.shape for part in parts] == [(8, 40), (8, 40), (4, 40)]
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}


def test_shared_neighbours_reduce_the_distance_of_a_distant_view() -> None:
    # The views of one person are on an arc. Another person, in another direction, is nearer to the first view than the
    # last view is.
    angles = np.radians([*np.linspace(0, 40, 9), 180])
    views = np.stack([np.cos(angles), np.sin(angles), np.zeros(10)], axis=1)
    tilts = np.radians(np.linspace(36, 37, 5))
    others = np.stack([np.cos(tilts), np.zeros(5), np.sin(tilts)], axis=1)
    query, gallery = views[:1].astype(np.float32), np.vstack([views[1:], others]).astype(np.float32)
    last, other = 7, slice(9, None)
    plain = 1 - query @ gallery.T
    assert plain[0, other].max() < plain[0, last]
    ranked = rerank(query, gallery, RerankConfig(k1=6, k2=2))
    assert ranked[0, last] < ranked[0, other].min()


@pytest.mark.parametrize("crops", [np.ones((60, 4), np.float32) / 2, np.zeros((60, 4), np.float32)])
def test_identical_crops_have_finite_distances(crops: np.ndarray) -> None:
    ranked = rerank(crops[:10], crops[10:], RerankConfig())
    assert np.isfinite(ranked).all()
    assert ((ranked > -1e-6) & (ranked < 1 + 1e-6)).all()


def test_one_crop_against_one() -> None:
    crop = np.eye(4, dtype=np.float32)[:1]
    np.testing.assert_allclose(rerank(crop, crop, RerankConfig()), [[0]], atol=1e-6)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    crops = clusters(0, people=3, crops=20)
    crops[12, 0] = np.nan
    with pytest.raises(InvalidData, match=r"12 .* is not finite"):
        rerank(crops[:5], crops[5:], RerankConfig())


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [0.9, 50.0])
def test_a_full_data_set_is_ranked_within_a_memory_limit(scatter: float) -> None:
    crops = clusters(0, people=750, crops=23_400, dimension=512, scatter=scatter)
    tracemalloc.start()
    try:
        rows = sum(len(block) for block in rerank_rows(crops[:3400], crops[3400:], RerankConfig(), 256))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 3400
    assert peak < 2**30  # one matrix of all pairs is 2 GiB

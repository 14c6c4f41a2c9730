from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from motserve.config import EvaluationConfig
from motserve.errors import InvalidData
from motserve.lab.evaluation.reid_data import CropTable
from motserve.lab.evaluation.retrieval import (
    RetrievalScores,
    cosine_rows,
    key_columns,
    order_keys,
    right_ranks,
    score_retrieval,
)
from motserve.reid.normalise import unit_length


def crops(identities: Sequence[int], cameras: Sequence[int]) -> CropTable:
    return CropTable((Path(),) * len(identities), np.array(identities, np.int64), np.array(cameras, np.int64))


def blocks(distances: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    for start in range(0, len(distances), batch):
        yield distances[start : start + batch]


def score(distances: Sequence[Sequence[float]] | np.ndarray, query: CropTable, gallery: CropTable) -> RetrievalScores:
    return score_retrieval([np.array(distances, np.float32)], query, gallery)


def by_definition(distances: np.ndarray, query: CropTable, gallery: CropTable) -> RetrievalScores:
    """Return the scores by their definitions, one query at a time."""
    matched_by: dict[int, list[bool]] = {1: [], 5: [], 10: []}
    precisions: list[float] = []
    penalties: list[float] = []
    skipped = 0
    for q, (person, camera) in enumerate(zip(query.identities, query.cameras, strict=True)):
        ranking = []
        for g in range(len(gallery)):
            junk = gallery.identities[g] == -1
            own_view = gallery.identities[g] == person and gallery.cameras[g] == camera
            if not junk and not own_view:
                ranking.append((float(distances[q, g]), g))
        right = [person >= 1 and gallery.identities[g] == person for _, g in sorted(ranking)]
        if not any(right):
            skipped += 1
            continue
        precision_at_hits = []
        for rank, is_match in enumerate(right, 1):
            if is_match:
                precision_at_hits.append((len(precision_at_hits) + 1) / rank)
                last = rank
        precisions.append(sum(precision_at_hits) / len(precision_at_hits))
        penalties.append(len(precision_at_hits) / last)
        for depth, matched in matched_by.items():
            matched.append(any(right[:depth]))
    shares = [sum(matched) / len(matched) for matched in matched_by.values()]
    counted = len(precisions)
    return RetrievalScores(*shares, sum(precisions) / counted, sum(penalties) / counted, counted, skipped)


def random_case(seed: int) -> tuple[np.ndarray, CropTable, CropTable]:
    """Crops of a few people from a few cameras, with junk, distractors and, for odd seeds, many ties."""
    random = np.random.default_rng(seed)
    queries, gallery = int(random.integers(5, 40)), int(random.integers(20, 120))
    distances = random.normal(scale=0.7, size=(queries, gallery))
    if seed % 2:
        distances = distances.round(int(random.integers(0, 2)))
        distances[random.random(distances.shape) < 0.1] *= -1
    people, cameras = int(random.integers(2, 12)), int(random.integers(2, 5))
    return (
        distances.astype(np.float32),
        crops(random.integers(-1, people + 1, queries), random.integers(1, cameras + 1, queries)),
        crops(random.integers(-1, people + 1, gallery), random.integers(1, cameras + 1, gallery)),
    )


@pytest.mark.parametrize("seed", range(60))
def test_scores_equal_those_of_the_definitions_for_any_block_size(seed: int) -> None:
    distances, query, gallery = random_case(seed)
    expected = by_definition(distances, query, gallery)
    scores = [score_retrieval(blocks(distances, batch), query, gallery) for batch in (1, 7, len(query))]
    assert scores[0] == scores[1] == scores[2]
    for name in RetrievalScores.__slots__:
        assert getattr(scores[0], name) == pytest.approx(getattr(expected, name), abs=1e-9), name


def test_precision_is_averaged_over_the_right_crops() -> None:
    # right at the ranks 1, 3 and 6
    gallery = crops([1, 2, 1, 3, 2, 1], [2] * 6)
    scores = score([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], crops([1], [1]), gallery)
    assert scores == RetrievalScores(1, 1, 1, pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3), 3 / 6, 1, 0)


def test_ranks_one_five_and_ten_are_distinct_scores() -> None:
    distances = np.tile(np.arange(12) / 100, (5, 1))
    gallery = crops(range(1, 13), [2] * 12)
    # the right crops are at the ranks 1, 5, 6, 10 and 11
    scores = score(distances, crops([1, 5, 6, 10, 11], [1] * 5), gallery)
    assert (scores.rank1, scores.rank5, scores.rank10) == (0.2, 0.4, 0.8)
    assert scores.mean_ap == scores.mean_inp == pytest.approx((1 + 1 / 5 + 1 / 6 + 1 / 10 + 1 / 11) / 5)


def test_views_of_the_same_camera_are_not_in_the_ranking() -> None:
    gallery = crops([1, 1, 1], [1, 1, 2])
    assert score([[0, 0.1, 0.9]], crops([1], [1]), gallery) == RetrievalScores(1, 1, 1, 1, 1, 1, 0)


def test_other_people_of_the_same_camera_are_in_the_ranking() -> None:
    assert score([[0.1, 0.9]], crops([1], [1]), crops([2, 1], [1, 2])).mean_ap == 0.5


def test_junk_is_in_no_ranking_and_a_distractor_in_all() -> None:
    query = crops([1], [1])
    assert score([[0.1, 0.9]], query, crops([-1, 1], [2, 2])).mean_ap == 1
    assert score([[0.1, 0.9]], query, crops([0, 1], [2, 2])).mean_ap == 0.5


def test_queries_without_a_right_crop_are_counted_and_not_scored() -> None:
    # one with a match, one only in its own camera, one not in the gallery, a distractor and junk
    query = crops([1, 2, 3, 0, -1], [1, 2, 1, 1, 1])
    scores = score(np.zeros((5, 4)), query, crops([1, 2, 0, -1], [2, 2, 2, 2]))
    assert scores == RetrievalScores(1, 1, 1, 1, 1, 1, 4)


def test_of_equal_distances_the_earlier_in_the_gallery_ranks_first() -> None:
    query = crops([1], [1])
    assert score([[0.5, 0.5, 0.5]], query, crops([1, 2, 3], [2, 2, 2])).mean_ap == 1
    assert score([[0.5, 0.5, 0.5]], query, crops([2, 3, 1], [2, 2, 2])).mean_ap == pytest.approx(1 / 3)
    assert score([[0.0, -0.0]], query, crops([2, 1], [2, 2])).mean_ap == 0.5


def test_keys_are_ordered_like_a_stable_sort_of_the_distances() -> None:
    random = np.random.default_rng(0)
    distances = random.normal(size=(50, 300)).round(1).astype(np.float32)
    distances[:, ::7] = random.normal(scale=1e-30, size=(50, 43))
    columns = key_columns(np.sort(order_keys(np.asfortranarray(distances)), axis=1))
    np.testing.assert_array_equal(columns, np.argsort(distances, axis=1, kind="stable"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_distance_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    distances = np.zeros((5, 3), np.float32)
    distances[4, 2] = bad
    labels = crops([1] * 5, [1] * 5), crops([1, 1, -1], [2] * 3)
    with pytest.raises(InvalidData, match=r"query 4 to gallery crop 2 .* is -?(nan|inf)"):
        score_retrieval(blocks(distances, 2), *labels)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4), r"shape \(2, 4\) after 0 queries; there are labels of 3 queries and 5 gallery crops"),
        ((4, 5), r"shape \(4, 5\) after 0 queries"),
        ((2, 5), "distances of 2 queries, but labels of 3"),
        ((5,), r"shape \(5,\)"),
    ],
)
def test_distances_must_be_of_the_labelled_crops(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        score_retrieval([np.zeros(shape, np.float32)], crops([1] * 3, [1] * 3), crops([1] * 5, [2] * 5))


def test_without_a_query_that_counts_there_is_no_score() -> None:
    with pytest.raises(InvalidData, match="none of the 2 queries can be scored: the gallery of 3 crops"):
        score(np.zeros((2, 3)), crops([1, 2], [1, 1]), crops([1, 3, 0], [1, 1, 1]))


def embeddings(count: int, seed: int = 0, dimension: int = 128) -> np.ndarray:
    return unit_length(np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32))


@pytest.mark.parametrize("batch", [1, 7, 20, 64])
def test_blocks_are_cosine_distances_in_the_order_of_the_queries(batch: int) -> None:
    query, gallery = embeddings(20, 1), embeddings(33, 2)
    parts = list(cosine_rows(query, gallery, batch))
    assert [len(part) for part in parts] == [min(batch, 20 - start) for start in range(0, 20, batch)]
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}
    expected = [[1 - float(np.dot(a.astype(float), b.astype(float))) for b in gallery] for a in query]
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-7)


@pytest.mark.parametrize("batch", [1, 3, 16, 100])
def test_no_distance_depends_on_the_batch(batch: int) -> None:
    query, gallery = embeddings(100, 1), embeddings(5000, 2)
    together = np.concatenate(list(cosine_rows(query, gallery, 64)))
    np.testing.assert_array_equal(np.concatenate(list(cosine_rows(query, gallery, batch))), together)


def test_equal_crops_are_at_equal_distances() -> None:
    gallery = np.tile(embeddings(3, 2), (1700, 1))
    distances = np.concatenate(list(cosine_rows(embeddings(50, 1), gallery, 16)))
    np.testing.assert_array_equal(distances, np.tile(distances[:, :3], (1, 1700)))
    assert (np.concatenate(list(cosine_rows(gallery[:3], gallery[:3], 16))) >= 0).all()


def test_embeddings_that_are_not_finite_are_refused_with_their_place() -> None:
    good, bad = embeddings(6), embeddings(6)
    bad[4, 1], bad[5, 3] = np.nan, np.inf
    with pytest.raises(InvalidData, match=r"query crop 4 .* 1 more"):
        next(cosine_rows(bad, good, 2))
    with pytest.raises(InvalidData, match="gallery crop 4"):
        next(cosine_rows(good, bad, 2))


@pytest.mark.slow
def test_a_full_data_set_is_scored_within_a_memory_limit() -> None:
    random = np.random.default_rng(0)
    query, gallery = embeddings(3400, 1, 512), embeddings(20_000, 2, 512)
    labels = (crops(random.integers(1, 751, n), random.integers(1, 7, n)) for n in (3400, 20_000))
    tracemalloc.start()
    try:
        score_retrieval(cosine_rows(query, gallery, EvaluationConfig().query_batch), *labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * 2**20  # all distances at once are 260 MiB


def test_right_ranks_are_those_of_the_scores() -> None:
    query = CropTable((Path("a"), Path("b")), np.array([1, 2]), np.array([1, 1]))
    gallery = CropTable(tuple(map(Path, "cdef")), np.array([1, 3, 1, 1]), np.array([2, 2, 1, 3]))
    distances = np.array([[0.3, 0.2, 0.0, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    first, second = right_ranks([distances], query, gallery)
    assert first.tolist() == [1, 3]  # the crop of the query's own camera is in no ranking
    assert second.tolist() == []

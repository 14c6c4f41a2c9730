"""People across videos: summaries, the store on disk, and the index against an exhaustive comparison."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import decode_picture

from motserve.config import IdentitiesConfig
from motserve.errors import NotFound
from motserve.people import identity_store as store_module
from motserve.people.identity_index import IdentityIndex, IdentityIndexes, Match
from motserve.people.identity_store import IdentityStore
from motserve.people.identity_summaries import IdentitySummaries, IdentitySummary, keep_varied
from motserve.types import FloatArray

DIMENSION = 16
MODEL = "model"


def unit(vectors: np.ndarray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def random_units(generator: np.random.Generator, *shape: int) -> FloatArray:
    return unit(generator.standard_normal((*shape, DIMENSION)))


def crops_of(*values: int, sharp: bool = True) -> np.ndarray:
    """Crops with stripes of a shade; unsharp ones are uniform."""
    crops = np.stack([np.full((64, 32, 3), value, np.uint8) for value in values])
    if sharp:
        crops[:, ::4] = 0
    return crops


def add(
    summaries: IdentitySummaries, identity: int, embedding: np.ndarray, crop: np.ndarray, height: float, at: float = 0.0
) -> None:
    box = np.array([[0, 0, height / 2, height]], np.float32)
    summaries.add(np.array([identity]), embedding[None], crop, box, np.array([0.9], np.float32), at)


# Summaries


def test_a_summary_spans_all_embeddings_and_keeps_the_most_different_ones() -> None:
    summaries = IdentitySummaries(IdentitiesConfig(embeddings_per_identity=3))
    angles = np.radians([0, 1, 2, 90, 91, 180, 181])
    for second, angle in enumerate(angles):
        add(summaries, 5, np.array([np.cos(angle), np.sin(angle)], np.float32), crops_of(9), 100, second)
    (summary,) = summaries.summaries()
    assert (summary.identity, summary.first_seen_s, summary.last_seen_s) == (5, 0, 6)
    stored = np.degrees(np.arctan2(summary.embeddings[:, 1], summary.embeddings[:, 0])).round() % 360
    assert sorted((stored // 45).tolist()) == [0, 2, 4]


def test_the_smallest_distance_of_stored_embeddings_never_decreases() -> None:
    generator = np.random.default_rng(0)
    stored = random_units(generator, 1)
    spread = 0.0
    for new in random_units(generator, 200):
        stored = keep_varied(stored, new, 4)
        if len(stored) == 4:
            distances = (1 - stored @ stored.T)[np.triu_indices(4, 1)]
            assert distances.min() >= spread
            spread = distances.min()
    assert stored.shape == (4, DIMENSION)


def test_the_thumbnail_is_of_the_largest_sharp_crop() -> None:
    summaries = IdentitySummaries(IdentitiesConfig())
    embedding = random_units(np.random.default_rng(0))
    add(summaries, 1, embedding, crops_of(100), 50)
    add(summaries, 1, embedding, crops_of(200), 100)
    add(summaries, 1, embedding, crops_of(250, sharp=False), 200)  # larger, but without structure
    add(summaries, 1, embedding, crops_of(150), 40)
    thumbnail = decode_picture(summaries.summaries()[0].thumbnail)
    np.testing.assert_allclose(thumbnail, crops_of(200)[0], atol=12)


def test_beyond_the_limit_the_least_embedded_person_is_dropped() -> None:
    summaries = IdentitySummaries(IdentitiesConfig(max_per_video=3, embeddings_per_identity=2))
    generator = np.random.default_rng(0)
    for second in range(5):
        for identity in (1, 2):
            add(summaries, identity, random_units(generator), crops_of(9), 50, second)
    for identity in range(10, 60):
        add(summaries, identity, random_units(generator), crops_of(9), 50, identity)
    assert [summary.identity for summary in summaries.summaries()] == [1, 2, 59]
    assert (len(summaries), summaries.dropped) == (3, 49)
    assert max(len(summary.embeddings) for summary in summaries.summaries()) == 2


def test_an_embedding_that_is_not_finite_is_ignored() -> None:
    summaries = IdentitySummaries(IdentitiesConfig())
    add(summaries, 1, np.full(DIMENSION, np.nan, np.float32), crops_of(9), 50)
    assert summaries.summaries() == []


def test_a_frame_without_people_adds_no_summary() -> None:
    summaries = IdentitySummaries(IdentitiesConfig())
    none = np.empty(0, np.float32)
    summaries.add(np.empty(0, np.int64), none.reshape(0, 4), crops_of(1)[:0], none.reshape(0, 4), none, 0.0)
    assert len(summaries) == 0


# The store


def people(generator: np.random.Generator, count: int, embeddings: int = 2) -> list[IdentitySummary]:
    return [
        IdentitySummary(
            number, number / 2, number + 1.5, random_units(generator, embeddings), f"jpeg {number}".encode()
        )
        for number in range(1, count + 1)
    ]


def test_people_are_stored_when_the_store_is_opened_again(tmp_path: Path) -> None:
    summaries = people(np.random.default_rng(0), 3)
    IdentityStore(tmp_path / "new", 100).put("a", MODEL, summaries)
    store = IdentityStore(tmp_path / "new", 100)
    for summary in summaries:
        found = store.find("a", summary.identity)
        assert (found.video_id, found.identity, found.model) == ("a", summary.identity, MODEL)
        assert (found.first_seen_s, found.last_seen_s) == (summary.first_seen_s, summary.last_seen_s)
        assert store.get(found.id) == found
        assert store.thumbnail(found.id) == summary.thumbnail
        np.testing.assert_allclose(store.embeddings(found.id), summary.embeddings, atol=1e-3)


def test_numbers_are_never_reused(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, 100)
    store.put("a", MODEL, people(np.random.default_rng(0), 3))
    first = store.of_video("a")
    store.remove(["a"])
    IdentityStore(tmp_path, 100).put("a", MODEL, people(np.random.default_rng(0), 3))
    assert first.isdisjoint(store.of_video("a"))


def test_a_removed_video_leaves_no_data(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, 100)
    for video in "ab":
        store.put(video, MODEL, people(np.random.default_rng(0), 2))
    gone = store.find("a", 1).id
    store.remove(["a", "never there"])
    for call in (store.get, store.thumbnail, store.embeddings):
        with pytest.raises(NotFound, match=f"no identity {gone}"):
            call(gone)
    with pytest.raises(NotFound, match="identity 1 of video a"):
        store.find("a", 1)
    assert (store.videos(), store.counts()) == ({"b"}, {MODEL: 2})
    assert b"jpeg 1" in (data := (tmp_path / "identities.sqlite").read_bytes())
    assert data.count(b"jpeg 1") == 1, "the thumbnail of a deleted person can still be read in the file"


def test_storing_a_video_again_replaces_its_people(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, 100)
    store.put("a", MODEL, people(np.random.default_rng(0), 3))
    store.put("a", MODEL, people(np.random.default_rng(1), 1))
    assert len(store.of_video("a")) == 1


def test_beyond_the_limit_the_oldest_videos_are_removed(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, 7)
    for video in "abc":
        store.put(video, MODEL, people(np.random.default_rng(0), 3))
    assert store.videos() == {"b", "c"}
    store.put("d", MODEL, people(np.random.default_rng(0), 7))
    assert store.videos() == {"d"}


def _remember_some(root: Path, name: str, count: int) -> None:
    store = IdentityStore(root, 1000)
    generator = np.random.default_rng(0)
    for number in range(count):
        store.put(f"{name}-{number}", MODEL, people(generator, 3))
        if number % 2:
            store.remove([f"{name}-{number}"])


def test_concurrent_processes_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as processes:
        for task in [processes.submit(_remember_some, tmp_path, name, 10) for name in "abc"]:
            task.result(120)
    assert IdentityStore(tmp_path, 1000).videos() == {
        f"{name}-{number}" for name in "abc" for number in range(0, 10, 2)
    }


# The index


class Oracle:
    """Compares with every person, in double precision."""

    def __init__(self, store: IdentityStore) -> None:
        self.store = store
        self.people: dict[int, FloatArray] = {}

    def put(self, video: str, summaries: list[IdentitySummary], model: str = MODEL) -> None:
        before = self.store.of_video(video)
        self.store.put(video, model, summaries)
        self.people = {known: vectors for known, vectors in self.people.items() if known not in before}
        self.people |= {self.store.find(video, one.identity).id: one.embeddings for one in summaries}

    def remove(self, video: str) -> None:
        gone = self.store.of_video(video)
        self.store.remove([video])
        self.people = {known: vectors for known, vectors in self.people.items() if known not in gone}

    def distances(self, queries: FloatArray) -> dict[int, float]:
        return {known: float((1 - queries.astype(float) @ v.T).min()) for known, v in self.people.items()}

    def check(self, matches: list[Match], queries: FloatArray, limit: int, excluded: set[int]) -> None:
        """Check people and order; people at equal distance within half precision are interchangeable."""
        distances = self.distances(queries)
        allowed = sorted(distance for known, distance in distances.items() if known not in excluded)[:limit]
        assert len({match.id for match in matches}) == len(matches) == len(allowed)
        assert not excluded & {match.id for match in matches}
        np.testing.assert_allclose([match.distance for match in matches], allowed, atol=2e-3)
        for match in matches:
            assert match.distance == pytest.approx(distances[match.id], abs=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_two_copies_equal_an_exhaustive_comparison_through_changes(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    oracle = Oracle(IdentityStore(tmp_path, 10_000))
    copies = [IdentityIndex(IdentityStore(tmp_path, 10_000), MODEL) for _ in range(2)]
    videos: list[str] = []
    for step in range(60):
        if videos and generator.random() < 0.4:
            oracle.remove(videos.pop(int(generator.integers(len(videos)))))
        else:
            videos.append(f"video {step}")
            oracle.put(videos[-1], people(generator, int(generator.integers(1, 12)), int(generator.integers(1, 5))))
        queries = random_units(generator, int(generator.integers(1, 4)))
        excluded = oracle.store.of_video(videos[0]) if videos else set()
        limit = int(generator.integers(1, 15))
        copy = copies[int(generator.integers(2))]  # the other one falls behind
        oracle.check(copy.search(queries, limit, excluded), queries, limit, excluded)
    for copy in copies:
        oracle.check(copy.search(queries, 1000), queries, 1000, set())


def test_many_excluded_identities_do_not_hide_the_others(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    oracle = Oracle(IdentityStore(tmp_path, 10_000))
    centre = random_units(generator)
    near = unit(centre + 0.01 * generator.standard_normal((300, 4, DIMENSION)))
    oracle.put("own", [IdentitySummary(n, 0, 1, vectors, b"") for n, vectors in enumerate(near)])
    oracle.put("other", people(generator, 5))
    excluded = oracle.store.of_video("own")
    matches = IdentityIndex(oracle.store, MODEL).search(centre[None], 5, excluded)
    oracle.check(matches, centre[None], 5, excluded)


def test_no_match_is_beyond_the_largest_distance(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, 100)
    vectors = unit(np.array([[1, 0], [1, 0.2], [0, 1]]))
    store.put("a", MODEL, [IdentitySummary(n, 0, 1, vector[None], b"") for n, vector in enumerate(vectors)])
    index = IdentityIndex(store, MODEL)
    assert len(index.search(vectors[:1], 10)) == 3
    close = index.search(vectors[:1], 10, max_distance=0.1)
    assert [store.get(match.id).identity for match in close] == [0, 1]


def test_models_are_not_compared(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, 100)
    generator = np.random.default_rng(0)
    store.put("a", "one", people(generator, 2))
    wide = unit(generator.standard_normal((1, 7)))
    store.put("b", "other", [IdentitySummary(1, 0, 1, wide, b"")])
    indexes = IdentityIndexes(store)
    assert indexes.of("one") is indexes.of("one")
    assert {store.get(match.id).video_id for match in indexes.of("one").search(random_units(generator, 1), 9)} == {"a"}
    assert [store.get(match.id).video_id for match in indexes.of("other").search(wide, 9)] == ["b"]
    assert indexes.of("none").search(wide, 9) == []
    with pytest.raises(ValueError, match="7 dimensions, the index has 16"):
        indexes.of("one").search(wide, 9)


def test_a_copy_that_missed_too_many_removals_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_REMOVALS_KEPT", 5)
    generator = np.random.default_rng(0)
    oracle = Oracle(IdentityStore(tmp_path, 100))
    index = IdentityIndex(oracle.store, MODEL)
    queries = random_units(generator, 1)
    oracle.put("kept", people(generator, 3))
    oracle.put("gone", people(generator, 20))
    oracle.check(index.search(queries, 50), queries, 50, set())
    oracle.remove("gone")
    oracle.check(index.search(queries, 50), queries, 50, set())
    late = IdentityIndex(oracle.store, MODEL)
    oracle.check(late.search(queries, 50), queries, 50, set())


def test_searches_and_changes_at_the_same_time(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path, 10_000)
    generator = np.random.default_rng(0)
    known = people(generator, 30)
    store.put("known", MODEL, known)
    index = IdentityIndex(store, MODEL)

    def change(name: int) -> None:
        others = np.random.default_rng(name + 1)
        for number in range(6):
            store.put(f"{name}-{number}", MODEL, people(others, 20))
            if number % 2:
                store.remove([f"{name}-{number - 1}"])

    def search(_: int) -> bool:
        return all(store.get(index.search(one.embeddings, 1)[0].id).identity == one.identity for one in known[::3])

    with ThreadPoolExecutor(4) as threads:
        changes = [threads.submit(change, name) for name in range(2)]
        assert all(threads.map(search, range(6)))
        for task in changes:
            task.result(120)
    all_ids = {match.id for match in index.search(random_units(generator, 1), 10_000)}
    expected = set().union(*(store.of_video(video) for video in store.videos()))
    assert all_ids == expected


@pytest.mark.parametrize("order", ["faiss onnxruntime torch", "onnxruntime faiss torch", "torch faiss onnxruntime"])
def test_the_index_library_can_be_imported_with_the_network_libraries(order: str) -> None:
    """One vector library made ONNX Runtime crash when it was imported first."""
    code = f"import importlib\nfor name in {order.split()}: importlib.import_module(name)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from __future__ import annotations

import itertools

import numpy as np
import pytest

from motserve.reid.gallery import Gallery

rows = np.array


def unit(*axes: int, dimension: int = 8) -> np.ndarray:
    return np.eye(dimension, dtype=np.float32)[list(axes)]


def gallery(people: int, size: int = 3) -> Gallery:
    made = Gallery(size)
    made.append_rows(people)
    return made


def counts(people: Gallery) -> list[int]:
    return [len(people.embeddings_of(row)) if people.filled[row] else 0 for row in range(len(people))]


def distances(people: Gallery, to: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """Return distances of single embeddings to rows, each embedding as a separate person."""
    first = len(people)
    people.append_rows(len(probes))
    people.add(np.arange(first, first + len(probes)), probes)
    result = people.distances(np.arange(first, first + len(probes)), to)
    people.keep(np.arange(len(people)) < first)
    return result


def test_the_distance_is_to_the_nearest_embedding() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.add(rows([0]), unit(2))
    probes = np.stack([unit(0)[0], unit(2)[0], (unit(1) * 0.6 + unit(5) * 0.8)[0]])
    np.testing.assert_allclose(distances(people, rows([0, 1]), probes), [[0.0, 1.0], [0.0, 1.0], [1.0, 0.4]], atol=1e-6)


def test_distances_of_several_embeddings_are_averaged() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 0))
    people.add(rows([1]), unit(1))
    np.testing.assert_allclose(people.distances(rows([1]), rows([0])), [[0.5]])
    np.testing.assert_allclose(people.distances(rows([0]), rows([1])), [[0]])
    assert people.distances(rows([0]), rows([1])).dtype == np.float32


def test_the_nearest_of_its_own_row() -> None:
    people = gallery(2)
    people.add(rows([0]), unit(0))
    np.testing.assert_allclose(people.nearest(rows([0, 1, 0]), unit(0, 0, 1)), [0, 2, 1])


def test_the_nearest_of_several_rows() -> None:
    people = gallery(3)
    people.add(rows([0, 2]), unit(0, 1))
    people.add(rows([2]), unit(2))
    np.testing.assert_allclose(people.nearest_of(rows([0, 2]), unit(0, 2, 3)), [[0, 1], [1, 0], [1, 1]])
    assert people.nearest_of(rows([], np.int64), unit(0)).shape == (1, 0)


def test_an_empty_slot_is_far_from_everything() -> None:
    people = gallery(1)
    people.add(rows([0]), unit(0))
    np.testing.assert_allclose(distances(people, rows([0]), -unit(0)), [[2]])
    np.testing.assert_allclose(people.nearest_of(rows([0]), -unit(0)), [[2]])
    np.testing.assert_allclose(people.nearest(rows([0]), -unit(0)), [2])


def test_the_older_of_the_two_most_similar_embeddings_is_replaced() -> None:
    near, far = np.array([0.8, 0.6, 0, 0, 0, 0, 0, 0], np.float32), unit(3)[0]
    for order, lost in (((unit(0)[0], near, far), 0.2), ((near, unit(0)[0], far), 0.0)):
        people = gallery(1, size=2)
        for embedding in order:
            people.add(rows([0]), embedding[None])
        result = distances(people, rows([0]), np.stack([unit(0)[0], far]))
        np.testing.assert_allclose(result, [[lost], [0.0]], atol=1e-6)


def test_a_new_embedding_replaces_the_most_similar_one() -> None:
    people = gallery(1, size=2)
    for embedding in (unit(0), unit(1), np.array([[0.96, 0, 0.28, 0, 0, 0, 0, 0]], np.float32)):
        people.add(rows([0]), embedding)
    np.testing.assert_allclose(distances(people, rows([0]), unit(0, 1)), [[0.04], [0.0]], atol=1e-6)


def test_stored_embeddings_cover_all_views() -> None:
    random = np.random.default_rng(0)
    views = np.eye(16, dtype=np.float32)[:4]
    embeddings = np.repeat(views, 20, axis=0) + random.normal(0, 0.02, (80, 16)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    people = gallery(1, size=4)
    for embedding in embeddings:
        people.add(rows([0]), embedding[None])
    assert distances(people, rows([0]), views).max() < 0.05, "each of four views is stored, not only the last"


def test_rows_are_filled_when_they_hold_an_embedding() -> None:
    people = gallery(3)
    people.add(rows([1]), unit(0))
    people.append_rows(1)
    assert people.filled.tolist() == [False, True, False, False]
    assert counts(people) == [0, 1, 0, 0]
    assert len(people) == 4


def test_growing_keeps_the_embeddings() -> None:
    people = gallery(0)
    for person in range(100):
        people.append_rows(1)
        people.add(rows([person]), unit(person, dimension=128))
    result = people.distances(np.arange(100), np.arange(100))
    np.testing.assert_allclose(result, 1 - np.eye(100))


def test_keeping_some_rows_moves_them_together() -> None:
    people = gallery(4)
    people.add(np.arange(4), unit(0, 1, 2, 3))
    people.keep(rows([False, True, False, True]))
    assert len(people) == 2
    np.testing.assert_allclose(distances(people, rows([0, 1]), unit(1, 3)), [[0, 1], [1, 0]])


@pytest.mark.parametrize("known_before", [0, 1, 16])
def test_rows_may_be_dropped_before_they_hold_anything(known_before: int) -> None:
    people = gallery(known_before)
    people.add(np.arange(known_before), unit(*range(known_before), dimension=16))
    people.append_rows(40)
    keep_mask = np.ones(len(people), np.bool_)
    keep_mask[::2] = False
    people.keep(keep_mask)
    assert len(people) == keep_mask.sum()
    assert people.filled.tolist() == [bool(i < known_before) for i in np.flatnonzero(keep_mask)]


def test_a_reused_row_has_no_embeddings_of_the_removed_one() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.keep(rows([True, False]))
    people.append_rows(1)
    people.add(rows([1]), unit(2))
    np.testing.assert_allclose(distances(people, rows([1]), unit(1, 2)), [[1], [0]])


def test_merging_moves_the_embeddings_of_one_row_to_another() -> None:
    people = gallery(2, size=4)
    people.add(rows([0, 1]), unit(0, 1))
    people.add(rows([1]), unit(2))
    people.merge(0, 1)
    assert counts(people) == [3, 0]
    np.testing.assert_allclose(distances(people, rows([0]), unit(0, 1, 2)), [[0], [0], [0]])


def test_cleared_rows_hold_nothing_and_can_be_filled_again() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.clear(rows([True, False]))
    assert counts(people) == [0, 1]
    people.add(rows([0]), unit(2))
    np.testing.assert_array_equal(people.embeddings_of(0), unit(2))


def test_the_gallery_equals_an_implementation_with_lists() -> None:
    random = np.random.default_rng(0)
    people = gallery(0, size=4)
    expected: list[list[tuple[int, np.ndarray]]] = []
    for tick in range(200):
        births = int(random.integers(0, 4))
        people.append_rows(births)
        expected += [[] for _ in range(births)]
        chosen = np.flatnonzero(random.random(len(expected)) < 0.4)
        added = random.normal(size=(len(chosen), 16)).astype(np.float32)
        added /= np.linalg.norm(added, axis=1, keepdims=True)
        if len(chosen):
            people.add(chosen, added)
        for row, embedding in zip(chosen, added, strict=True):
            stored = [*expected[row], (tick, embedding)]
            if len(stored) > 4:
                twins = max(itertools.combinations(stored, 2), key=lambda pair: float(pair[0][1] @ pair[1][1]))
                oldest = min(twins, key=lambda embedding: embedding[0])[0]
                stored = [embedding for embedding in stored if embedding[0] != oldest]
            expected[row] = stored
        keep_mask = random.random(len(expected)) < 0.95
        people.keep(keep_mask)
        expected = [row for row, keep in zip(expected, keep_mask, strict=True) if keep]
    filled = np.flatnonzero(people.filled)
    assert filled.tolist() == [i for i, row in enumerate(expected) if row]
    assert counts(people) == [len(row) for row in expected]
    probe = np.eye(16, dtype=np.float32)
    nearest = np.stack([1 - (probe @ np.stack([e for _, e in expected[i]]).T).max(axis=1) for i in filled], axis=1)
    np.testing.assert_allclose(distances(people, filled, probe), nearest, atol=1e-5)


def test_embeddings_of_another_length_clear_the_gallery() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.add(rows([0]), unit(2, dimension=16))
    assert people.filled.tolist() == [True, False]
    np.testing.assert_allclose(people.nearest(rows([0]), unit(2, dimension=16)), [0])


def crowded_gallery() -> Gallery:
    """Two full rows, one half full, and two without storage."""
    people = gallery(3, size=2)
    for axis in range(3):
        people.add(rows([0, 1]), unit(axis, axis + 3))
    people.add(rows([2]), unit(7))
    people.append_rows(60)
    return people


def test_a_restored_gallery_has_the_same_future() -> None:
    people, restored = crowded_gallery(), gallery(1, size=2)
    restored.add(rows([0]), unit(1, dimension=4))
    restored.load_state_dict(people.state_dict())
    assert counts(restored) == counts(people) == [2, 2, 1, *[0] * 60]
    for step in range(6):
        for one in (people, restored):
            one.add(rows([0, 2, 62]), unit(step, (3 * step) % 8, 7 - step))
    for row in (0, 1, 2, 62):
        np.testing.assert_array_equal(restored.embeddings_of(row), people.embeddings_of(row))


@pytest.mark.parametrize("people", [0, 2])
def test_a_gallery_without_spare_rows_is_restored_too(people: int) -> None:
    saved, restored = gallery(people), gallery(5)
    if people:
        saved.add(np.arange(people), unit(*range(people)))
    restored.load_state_dict(saved.state_dict())
    assert counts(restored) == [1] * people


def test_a_saved_gallery_shares_no_memory() -> None:
    people = crowded_gallery()
    state = people.state_dict()
    before = {name: values.copy() for name, values in state.items()}
    people.add(rows([0, 1]), unit(5, 6))
    restored = gallery(0, size=2)
    restored.load_state_dict(state)
    restored.add(rows([0, 1]), unit(5, 6))
    for name, values in before.items():
        np.testing.assert_array_equal(state[name], values)


def test_a_state_that_is_not_of_this_gallery_is_refused() -> None:
    state = crowded_gallery().state_dict()
    for name in state:
        with pytest.raises(ValueError, match=name):
            gallery(0, size=2).load_state_dict({key: values for key, values in state.items() if key != name})
    with pytest.raises(ValueError, match="embeddings"):
        gallery(0, size=3).load_state_dict(state)
    for embeddings in (state["embeddings"][:2], np.zeros((64, 2, 8), np.float32)):
        with pytest.raises(ValueError, match=f"embeddings of {len(embeddings)} of 63 people"):
            gallery(0, size=2).load_state_dict({**state, "embeddings": embeddings})
    gallery(0, size=2).load_state_dict({**state, "embeddings": state["embeddings"][:3]})

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
    """Distances of single embeddings to rows, each embedding as a person of its own."""
    first = len(people)
    people.append_rows(len(probes))
    people.add(np.arange(first, first + len(probes)), probes)
    found = people.distances(np.arange(first, first + len(probes)), to)
    people.keep(np.arange(len(people)) < first)
    return found


def test_the_distance_is_to_the_nearest_embedding() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.add(rows([0]), unit(2))
    probes = np.stack([unit(0)[0], unit(2)[0], (unit(1) * 0.6 + unit(5) * 0.8)[0]])
    np.testing.assert_allclose(distances(people, rows([0, 1]), probes), [[0, 1], [0, 1], [1, 0.4]], atol=1e-6)


def test_several_looks_are_averaged() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 0))
    people.add(rows([1]), unit(1))
    np.testing.assert_allclose(people.distances(rows([1]), rows([0])), [[0.5]])
    np.testing.assert_allclose(people.distances(rows([0]), rows([1])), [[0]])


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


def test_an_empty_place_is_far_from_everything() -> None:
    people = gallery(1)
    people.add(rows([0]), unit(0))
    np.testing.assert_allclose(distances(people, rows([0]), -unit(0)), [[2]])


def test_of_the_two_that_are_most_alike_the_older_makes_room() -> None:
    near, far = np.array([0.8, 0.6, 0, 0, 0, 0, 0, 0], np.float32), unit(3)[0]
    for order, lost in (((unit(0)[0], near, far), 0.2), ((near, unit(0)[0], far), 0.0)):
        people = gallery(1, size=2)
        for look in order:
            people.add(rows([0]), look[None])
        found = distances(people, rows([0]), np.stack([unit(0)[0], far]))
        np.testing.assert_allclose(found, [[lost], [0]], atol=1e-6)


def test_a_new_one_takes_the_place_of_its_like() -> None:
    people = gallery(1, size=2)
    for look in (unit(0), unit(1), np.array([[0.96, 0, 0.28, 0, 0, 0, 0, 0]], np.float32)):
        people.add(rows([0]), look)
    np.testing.assert_allclose(distances(people, rows([0]), unit(0, 1)), [[0.04], [0]], atol=1e-6)


def test_what_is_kept_is_more_varied_than_the_latest() -> None:
    random = np.random.default_rng(0)
    views = np.eye(16, dtype=np.float32)[:4]
    seen = np.repeat(views, 20, axis=0) + random.normal(0, 0.02, (80, 16)).astype(np.float32)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    people = gallery(1, size=4)
    for look in seen:
        people.add(rows([0]), look[None])
    assert distances(people, rows([0]), views).max() < 0.05, "each of four views is remembered, not the last only"


def test_rows_are_filled_when_they_hold_an_embedding() -> None:
    people = gallery(3)
    people.add(rows([1]), unit(0))
    people.append_rows(1)
    assert people.filled.tolist() == [False, True, False, False]
    assert counts(people) == [0, 1, 0, 0]
    assert len(people) == 4


def test_growing_keeps_what_was_remembered() -> None:
    people = gallery(0)
    for person in range(100):
        people.append_rows(1)
        people.add(rows([person]), unit(person, dimension=128))
    found = people.distances(np.arange(100), np.arange(100))
    np.testing.assert_allclose(found, 1 - np.eye(100))


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
    kept = np.ones(len(people), np.bool_)
    kept[::2] = False
    people.keep(kept)
    assert len(people) == kept.sum()
    assert people.filled.tolist() == [bool(i < known_before) for i in np.flatnonzero(kept)]


def test_a_row_that_took_the_place_of_another_remembers_nothing_of_it() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.keep(rows([True, False]))
    people.append_rows(1)
    people.add(rows([1]), unit(2))
    np.testing.assert_allclose(distances(people, rows([1]), unit(1, 2)), [[1], [0]])


def test_merging_moves_what_one_row_remembers_to_another() -> None:
    people = gallery(2, size=4)
    people.add(rows([0, 1]), unit(0, 1))
    people.add(rows([1]), unit(2))
    people.merge(0, 1)
    assert counts(people) == [3, 0]
    np.testing.assert_allclose(distances(people, rows([0]), unit(0, 1, 2)), [[0], [0], [0]])


def test_against_remembering_everything_in_lists() -> None:
    random = np.random.default_rng(0)
    people = gallery(0, size=4)
    remembered: list[list[tuple[int, np.ndarray]]] = []
    for tick in range(200):
        births = int(random.integers(0, 4))
        people.append_rows(births)
        remembered += [[] for _ in range(births)]
        chosen = np.flatnonzero(random.random(len(remembered)) < 0.4)
        added = random.normal(size=(len(chosen), 16)).astype(np.float32)
        added /= np.linalg.norm(added, axis=1, keepdims=True)
        if len(chosen):
            people.add(chosen, added)
        for row, embedding in zip(chosen, added, strict=True):
            held = [*remembered[row], (tick, embedding)]
            if len(held) > 4:
                twins = max(itertools.combinations(held, 2), key=lambda pair: float(pair[0][1] @ pair[1][1]))
                oldest = min(twins, key=lambda look: look[0])[0]
                held = [look for look in held if look[0] != oldest]
            remembered[row] = held
        kept = random.random(len(remembered)) < 0.95
        people.keep(kept)
        remembered = [row for row, keep in zip(remembered, kept, strict=True) if keep]
    filled = np.flatnonzero(people.filled)
    assert filled.tolist() == [i for i, row in enumerate(remembered) if row]
    assert counts(people) == [len(row) for row in remembered]
    probe = np.eye(16, dtype=np.float32)
    expected = np.stack([1 - (probe @ np.stack([e for _, e in remembered[i]]).T).max(axis=1) for i in filled], axis=1)
    np.testing.assert_allclose(distances(people, filled, probe), expected, atol=1e-5)


def test_embeddings_of_another_length_begin_memory_anew() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.add(rows([0]), unit(2, dimension=16))
    assert people.filled.tolist() == [True, False]
    np.testing.assert_allclose(people.nearest(rows([0]), unit(2, dimension=16)), [0])

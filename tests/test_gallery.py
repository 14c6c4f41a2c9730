from __future__ import annotations

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


def test_the_distance_is_to_the_best_embedding() -> None:
    people = gallery(2)
    people.add(rows([0, 1]), unit(0, 1))
    people.add(rows([0]), unit(2))
    distances = people.distances(rows([0, 1]), np.stack([unit(0)[0], unit(2)[0], (unit(1) * 0.6 + unit(5) * 0.8)[0]]))
    np.testing.assert_allclose(distances, [[0, 1], [0, 1], [1, 0.4]], atol=1e-6)


def test_an_empty_place_is_far_from_everything() -> None:
    people = gallery(1)
    people.add(rows([0]), unit(0))
    np.testing.assert_allclose(people.distances(rows([0]), -unit(0)), [[2]])


def test_a_full_row_forgets_the_oldest_embedding() -> None:
    people = gallery(1, size=2)
    for axis in (0, 1, 2):
        people.add(rows([0]), unit(axis))
    np.testing.assert_allclose(people.distances(rows([0]), unit(0, 1, 2)), [[1], [0], [0]])


def test_rows_are_filled_when_they_hold_an_embedding() -> None:
    people = gallery(3)
    people.add(rows([1]), unit(0))
    people.append_rows(1)
    assert people.filled.tolist() == [False, True, False, False]
    assert len(people) == 4


def test_growing_keeps_what_was_remembered() -> None:
    people = gallery(0)
    for person in range(100):
        people.append_rows(1)
        people.add(rows([person]), unit(person, dimension=128))
    distances = people.distances(np.arange(100), unit(*range(100), dimension=128))
    np.testing.assert_allclose(distances, 1 - np.eye(100))


def test_keeping_some_rows_moves_them_together() -> None:
    people = gallery(4)
    people.add(np.arange(4), unit(0, 1, 2, 3))
    people.keep(rows([False, True, False, True]))
    assert len(people) == 2
    np.testing.assert_allclose(people.distances(rows([0, 1]), unit(1, 3)), [[0, 1], [1, 0]])


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
    np.testing.assert_allclose(people.distances(rows([1]), unit(1, 2)), [[1], [0]])


def test_against_remembering_everything_in_lists() -> None:
    random = np.random.default_rng(0)
    people = gallery(0, size=4)
    remembered: list[list[np.ndarray]] = []
    for _ in range(200):
        births = int(random.integers(0, 4))
        people.append_rows(births)
        remembered += [[] for _ in range(births)]
        chosen = np.flatnonzero(random.random(len(remembered)) < 0.4)
        added = random.normal(size=(len(chosen), 16)).astype(np.float32)
        added /= np.linalg.norm(added, axis=1, keepdims=True)
        if len(chosen):
            people.add(chosen, added)
        for row, embedding in zip(chosen, added, strict=True):
            remembered[row] = [*remembered[row], embedding][-4:]
        kept = random.random(len(remembered)) < 0.95
        people.keep(kept)
        remembered = [row for row, keep in zip(remembered, kept, strict=True) if keep]
    filled = np.flatnonzero(people.filled)
    assert filled.tolist() == [i for i, row in enumerate(remembered) if row]
    probe = np.eye(16, dtype=np.float32)
    expected = np.stack([1 - (probe @ np.stack(remembered[i]).T).max(axis=1) for i in filled], axis=1)
    np.testing.assert_allclose(people.distances(filled, probe), expected, atol=1e-5)

from __future__ import annotations

import numpy as np
import pytest

from motserve.tracking.appearance import embeddings_of, running_mean
from motserve.types import Cues


def test_embeddings_are_those_of_the_rows() -> None:
    cues = Cues(rows=np.array([4, 1]), embeddings=np.array([[0.6, 0.8], [1, 0]], np.float32))
    embeddings, known = embeddings_of(np.array([5, 1, 3, 4, 0]), cues)
    assert known.tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(embeddings.T, [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.6, 0.8], [0.0, 0.0]])
    assert embeddings.dtype == np.float32


@pytest.mark.parametrize("dimension", [0, 2])
def test_without_embeddings_all_are_zero(dimension: int) -> None:
    embeddings, known = embeddings_of(np.array([0, 7]), Cues(embeddings=np.empty((0, dimension), np.float32)))
    np.testing.assert_array_equal(embeddings, np.zeros((dimension, 2)))
    assert embeddings.dtype == np.float32
    assert known.tolist() == [False, False]


def test_a_running_mean_is_between_old_and_new_by_their_weights() -> None:
    """Columns: a new track; weights of 0.75 and 0.25; equal embeddings; opposite ones, of weights 0.75 and 0.25."""
    old = np.array([[np.nan, 1, 0, 1], [np.nan, 0, 1, 0]], np.float32)
    new = np.array([[0.6, 0, 0, -1], [0.8, 1, 1, 0]], np.float32)
    mean = running_mean(old, new, 0.75)
    np.testing.assert_allclose(mean.T, [[0.6, 0.8], [0.9**0.5, 0.1**0.5], [0, 1], [1, 0]], rtol=1e-6)
    assert mean.dtype == np.float32


def test_a_mean_of_embeddings_that_cancel_each_other_is_finite() -> None:
    one = np.array([[1], [0]], np.float32)
    assert running_mean(one, -one, 0.5).tolist() == [[0], [0]]

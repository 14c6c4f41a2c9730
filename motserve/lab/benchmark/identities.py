"""Speed and recall of the search for people across videos, with any number of synthetic people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from motserve.config import IdentitiesConfig
from motserve.people.identity_index import IdentityIndex
from motserve.people.identity_store import IdentityStore
from motserve.people.identity_summaries import IdentitySummary
from motserve.types import FloatArray

DIMENSION: Final = 256
LIMIT: Final = 10
"""Number of matches requested, and number that the recall counts."""

_MODEL = "synthetic"
_PER_VIDEO = 500
_QUERIES = 50
_THUMBNAIL_BYTES = 6_000  # size of a 256 x 128 crop as JPEG of quality 85

# Measured on the embeddings, of that dimension, of 1,184 crops of 74 people from two cameras: the squared length of the
# mean that all share, the variance between people and within a person, and the number of directions of each variance.
_SHARED = 0.30
_BETWEEN, _BETWEEN_DIRECTIONS = 0.43, 20.0
_WITHIN, _WITHIN_DIRECTIONS = 0.48, 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """Measurements at one size of the index.

    Attributes:
        identities: People in the index.
        embeddings: Embeddings in the index.
        load_s: Seconds from opening the store to the first search result.
        search_ms: Median time of a search in milliseconds; the query has as many embeddings as a person in the index.
        recall: Share of the ten people truly closest that a search finds, in [0, 1].
        memory_bytes: Size of the index in memory.
        disk_bytes: Size of the store on disk.
    """

    identities: int
    embeddings: int
    load_s: float
    search_ms: float
    recall: float
    memory_bytes: int
    disk_bytes: int


def run(
    identities: int, config: IdentitiesConfig, seed: int = 0, clock: Callable[[], float] = time.perf_counter
) -> Row:
    """Fill a store with synthetic people, load an index of it and search.

    Args:
        identities: Number of people.
        config: Number of embeddings per person.
        seed: Seed of the synthetic embeddings.
        clock: Monotonic clock in seconds.
    """
    generator = np.random.default_rng(seed)
    size = config.embeddings_per_identity
    queries = next(_people(generator, _QUERIES, size))
    with TemporaryDirectory() as folder:
        store = IdentityStore(Path(folder), identities)
        distances = []
        for video, people in enumerate(_people(generator, identities, size)):
            thumbnail = generator.bytes(_THUMBNAIL_BYTES)
            summaries = [IdentitySummary(number, 0.0, 1.0, one, thumbnail) for number, one in enumerate(people)]
            store.put(str(video), _MODEL, summaries)
            similar = queries.reshape(-1, DIMENSION) @ people.reshape(-1, DIMENSION).T
            distances.append(1 - similar.reshape(_QUERIES, size, len(people), size).max(axis=(1, 3)))
        # identities are numbered consecutively from 1
        closest = 1 + np.argsort(np.concatenate(distances, axis=1), axis=1)[:, :LIMIT]
        start = clock()
        index = IdentityIndex(store, _MODEL)
        index.search(queries[0], LIMIT)
        load_s = clock() - start
        times, retrieved = [], 0
        for query, expected in zip(queries, closest, strict=True):
            start = clock()
            matches = index.search(query, LIMIT)
            times.append(clock() - start)
            retrieved += len({match.id for match in matches} & set(expected.tolist()))
        disk = sum(file.stat().st_size for file in Path(folder).iterdir())
    recall = retrieved / (_QUERIES * min(LIMIT, identities))
    milliseconds = float(np.median(times)) * 1e3
    return Row(identities, identities * size, load_s, milliseconds, recall, index.memory_bytes, disk)


def _people(generator: np.random.Generator, count: int, size: int) -> Iterator[FloatArray]:
    """Yield `(n, size, DIMENSION)` embeddings of `count` people, one video at a time."""
    shared = np.random.default_rng(0).standard_normal(DIMENSION)
    shared *= _SHARED / np.linalg.norm(shared)
    between, within = _spread(_BETWEEN, _BETWEEN_DIRECTIONS), _spread(_WITHIN, _WITHIN_DIRECTIONS)
    for start in range(0, count, _PER_VIDEO):
        people = min(_PER_VIDEO, count - start)
        centres = shared + between * generator.standard_normal((people, 1, DIMENSION))
        pictures = centres + within * generator.standard_normal((people, size, DIMENSION))
        yield np.asarray(pictures / np.linalg.norm(pictures, axis=2, keepdims=True), np.float32)


def _spread(variance: float, directions: float) -> FloatArray:
    """Return a standard deviation for each direction; the variances fall exponentially and add up to `variance`."""
    falling = np.exp(-np.arange(DIMENSION) / directions)
    return np.asarray(np.sqrt(variance * falling / falling.sum()), np.float32)

"""Collects a summary of each person while a video is tracked: a few embeddings and one thumbnail.

It uses embeddings that are computed for linking and requests none. It does no I/O, and its memory is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.base import State, concatenate_rows, load_array, split_rows
from motserve.config import IdentitiesConfig
from motserve.types import FloatArray, Image, IntArray


@dataclass(frozen=True, slots=True)
class IdentitySummary:
    """Summary of one person of a video.

    Attributes:
        identity: Number of the person in the video.
        first_seen_s: Presentation time in seconds of the first embedding.
        last_seen_s: Presentation time in seconds of the last embedding.
        embeddings: `(k, d)` float32, unit vectors, k at least 1.
        thumbnail: JPEG of the best crop.
    """

    identity: int
    first_seen_s: float
    last_seen_s: float
    embeddings: FloatArray
    thumbnail: bytes


@dataclass(slots=True)
class _Entry:
    """The summary of one person so far."""

    first_seen_s: float
    last_seen_s: float
    embeddings: FloatArray
    sightings: int = 0
    quality: float = -1.0
    thumbnail: bytes = b""


class IdentitySummaries:
    """Summaries of the people of one video.

    Args:
        config: Largest numbers of people and embeddings, and the quality of thumbnails.
    """

    def __init__(self, config: IdentitiesConfig) -> None:
        self._config = config
        self._entries: dict[int, _Entry] = {}
        self.dropped = 0
        """How many people were dropped because there were more than `max_per_video`."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        identities: IntArray,
        embeddings: FloatArray,
        crops: NDArray[np.uint8],
        boxes: FloatArray,
        scores: FloatArray,
        timestamp: float,
    ) -> None:
        """Add the embedded people of a frame; embeddings that are not finite are ignored.

        Args:
            identities: `(k,)` int64, numbers in the video, each at most once.
            embeddings: `(k, d)` float32, unit vectors.
            crops: `(k, height, width, 3)` uint8 BGR, what was embedded.
            boxes: `(k, 4)` float32, xyxy in pixels.
            scores: `(k,)` float32, confidence in [0, 1].
            timestamp: Presentation time in seconds, not less than that of the previous call.
        """
        sizes = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
        for row in np.flatnonzero(np.isfinite(embeddings).all(axis=1)):
            entry = self._entry_of(int(identities[row]), embeddings[row], timestamp)
            entry.last_seen_s = timestamp
            entry.sightings += 1
            quality = float(sizes[row] * scores[row]) * _sharpness(crops[row])
            if quality > entry.quality:
                entry.quality, entry.thumbnail = quality, self._encode(crops[row])

    def summaries(self) -> list[IdentitySummary]:
        """Return the summaries, by rising identity."""
        return [
            IdentitySummary(identity, entry.first_seen_s, entry.last_seen_s, entry.embeddings, entry.thumbnail)
            for identity, entry in sorted(self._entries.items())
        ]

    def state_dict(self) -> State:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        entries = list(self._entries.values())
        times = np.array([(entry.first_seen_s, entry.last_seen_s, entry.quality) for entry in entries], np.float64)
        counts = [(len(entry.embeddings), len(entry.thumbnail), entry.sightings) for entry in entries]
        return {
            "identities": np.array(list(self._entries), np.int64),
            "times": times.reshape(-1, 3),
            "counts": np.array(counts, np.int64).reshape(-1, 3),
            "embeddings": concatenate_rows([entry.embeddings for entry in entries], np.empty((0, 0), np.float32)),
            "thumbnails": np.frombuffer(b"".join(entry.thumbnail for entry in entries), np.uint8),
            "dropped": np.array(self.dropped, np.int64),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        identities = load_array(state, "identities", np.int64, -1).tolist()
        times = load_array(state, "times", np.float64, len(identities), 3)
        counts = load_array(state, "counts", np.int64, len(identities), 3)
        embeddings = split_rows(load_array(state, "embeddings", np.float32, -1, -1), counts[:, 0])
        thumbnails = split_rows(load_array(state, "thumbnails", np.uint8, -1), counts[:, 1])
        self.dropped = int(load_array(state, "dropped", np.int64))
        self._entries = {
            identity: _Entry(first, last, embeddings[row], int(counts[row, 2]), quality, thumbnails[row].tobytes())
            for row, (identity, (first, last, quality)) in enumerate(zip(identities, times.tolist(), strict=True))
        }

    def _entry_of(self, identity: int, embedding: FloatArray, timestamp: float) -> _Entry:
        """Add an embedding and return the person's entry; the least seen person may be dropped for a new one."""
        entry = self._entries.get(identity)
        if entry is None:
            if len(self._entries) >= self._config.max_per_video:
                least = min(
                    self._entries, key=lambda known: (self._entries[known].sightings, self._entries[known].last_seen_s)
                )
                del self._entries[least]
                self.dropped += 1
            entry = self._entries[identity] = _Entry(timestamp, timestamp, embedding[None].copy())
        else:
            entry.embeddings = keep_varied(entry.embeddings, embedding, self._config.embeddings_per_identity)
        return entry

    def _encode(self, crop: Image) -> bytes:
        encoded: NDArray[np.uint8]
        _, encoded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, self._config.thumbnail_quality])
        return encoded.tobytes()


def keep_varied(stored: FloatArray, new: FloatArray, size: int) -> FloatArray:
    """Add an embedding to the stored ones; beyond `size` one of the two closest is removed.

    It removes the one of the two without which the smallest distance between any two is larger, the later one if that
    is equal. The smallest distance therefore never decreases.

    Args:
        stored: `(k, d)` float32, unit vectors, k from 1 to `size`.
        new: `(d,)` float32, a unit vector.
        size: Most embeddings returned.

    Returns:
        `(min(k + 1, size), d)` float32, in the order in which they were added.

    >>> stored = np.array([[1, 0], [0, 1]], np.float32)
    >>> keep_varied(stored, np.array([-1, 0], np.float32), 2).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    >>> keep_varied(stored, np.array([0.6, 0.8], np.float32), 2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    candidates = np.concatenate([stored, new[None]])
    if len(candidates) <= size:
        return candidates
    if size == 1:
        return stored
    distances = 1 - candidates @ candidates.T
    np.fill_diagonal(distances, np.inf)
    first, second = sorted(divmod(int(distances.argmin()), len(candidates)))
    without = {row: np.delete(np.delete(distances, row, 0), row, 1).min() for row in (second, first)}
    return np.asarray(np.delete(candidates, max(without, key=lambda row: float(without[row])), 0))


def _sharpness(crop: Image) -> float:
    """Return the amount of fine structure in a crop; a small person scaled up to the crop size has little."""
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.CV_32F).std())

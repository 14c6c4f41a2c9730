"""Gathers, while a video is tracked, what will be remembered of each person: a few embeddings and one picture.

It lives on embeddings that are computed anyway and asks for none. It does no I/O, and its memory is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.base import State, cut, load_array, stacked
from motserve.config import IdentitiesConfig
from motserve.types import FloatArray, Image, IntArray


@dataclass(frozen=True, slots=True)
class IdentitySummary:
    """What is remembered of one person of a video.

    Attributes:
        identity: The video's own number of the person.
        first_seen_s: Presentation time in seconds of the first embedded sighting.
        last_seen_s: Presentation time in seconds of the last embedded sighting.
        embeddings: `(k, d)` float32, unit vectors, k at least 1.
        thumbnail: JPEG of the best crop.
    """

    identity: int
    first_seen_s: float
    last_seen_s: float
    embeddings: FloatArray
    thumbnail: bytes


@dataclass(slots=True)
class _Page:
    """The growing portrait of one person."""

    first_seen_s: float
    last_seen_s: float
    embeddings: FloatArray
    sightings: int = 0
    quality: float = -1.0
    thumbnail: bytes = b""


class IdentitySummaries:
    """Summaries of the people of one video.

    Args:
        config: How many people and embeddings are kept, and the quality of thumbnails.
    """

    def __init__(self, config: IdentitiesConfig) -> None:
        self._config = config
        self._pages: dict[int, _Page] = {}
        self.dropped = 0
        """How many people were left out because there were more than `max_per_video`."""

    def __len__(self) -> int:
        return len(self._pages)

    def add(
        self,
        identities: IntArray,
        embeddings: FloatArray,
        crops: NDArray[np.uint8],
        boxes: FloatArray,
        scores: FloatArray,
        timestamp: float,
    ) -> None:
        """Take in the people of a frame who were embedded; an embedding that is not finite is passed over.

        Args:
            identities: `(k,)` int64, the video's own numbers, each at most once.
            embeddings: `(k, d)` float32, unit vectors.
            crops: `(k, height, width, 3)` uint8 BGR, what was embedded.
            boxes: `(k, 4)` float32, xyxy in pixels.
            scores: `(k,)` float32, confidence in [0, 1].
            timestamp: Presentation time in seconds, not before that of the call before.
        """
        sizes = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
        for row in np.flatnonzero(np.isfinite(embeddings).all(axis=1)):
            page = self._page_of(int(identities[row]), embeddings[row], timestamp)
            page.last_seen_s = timestamp
            page.sightings += 1
            quality = float(sizes[row] * scores[row]) * _sharpness(crops[row])
            if quality > page.quality:
                page.quality, page.thumbnail = quality, self._encode(crops[row])

    def portraits(self) -> list[IdentitySummary]:
        """Return the portraits, by rising identity."""
        return [
            IdentitySummary(identity, page.first_seen_s, page.last_seen_s, page.embeddings, page.thumbnail)
            for identity, page in sorted(self._pages.items())
        ]

    def state_dict(self) -> State:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        pages = list(self._pages.values())
        times = np.array([(page.first_seen_s, page.last_seen_s, page.quality) for page in pages], np.float64)
        counts = [(len(page.embeddings), len(page.thumbnail), page.sightings) for page in pages]
        return {
            "identities": np.array(list(self._pages), np.int64),
            "times": times.reshape(-1, 3),
            "counts": np.array(counts, np.int64).reshape(-1, 3),
            "embeddings": stacked([page.embeddings for page in pages], np.empty((0, 0), np.float32)),
            "thumbnails": np.frombuffer(b"".join(page.thumbnail for page in pages), np.uint8),
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
        embeddings = cut(load_array(state, "embeddings", np.float32, -1, -1), counts[:, 0])
        thumbnails = cut(load_array(state, "thumbnails", np.uint8, -1), counts[:, 1])
        self.dropped = int(load_array(state, "dropped", np.int64))
        self._pages = {
            identity: _Page(first, last, embeddings[row], int(counts[row, 2]), quality, thumbnails[row].tobytes())
            for row, (identity, (first, last, quality)) in enumerate(zip(identities, times.tolist(), strict=True))
        }

    def _page_of(self, identity: int, embedding: FloatArray, timestamp: float) -> _Page:
        """Return the page of a person with the embedding taken in; somebody else's may go for it."""
        page = self._pages.get(identity)
        if page is None:
            if len(self._pages) >= self._config.max_per_video:
                least = min(
                    self._pages, key=lambda known: (self._pages[known].sightings, self._pages[known].last_seen_s)
                )
                del self._pages[least]
                self.dropped += 1
            page = self._pages[identity] = _Page(timestamp, timestamp, embedding[None].copy())
        else:
            page.embeddings = keep_varied(page.embeddings, embedding, self._config.embeddings_per_identity)
        return page

    def _encode(self, crop: Image) -> bytes:
        encoded: NDArray[np.uint8]
        _, encoded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, self._config.thumbnail_quality])
        return encoded.tobytes()


def keep_varied(kept: FloatArray, new: FloatArray, size: int) -> FloatArray:
    """Add an embedding to those kept; of more than `size` one of the two closest goes.

    Of those two goes the one without which the smallest distance between any two is larger, the later one where that
    is equal. What was kept therefore never comes closer together.

    Args:
        kept: `(k, d)` float32, unit vectors, k from 1 to `size`.
        new: `(d,)` float32, a unit vector.
        size: Most embeddings returned.

    Returns:
        `(min(k + 1, size), d)` float32, in the order of their coming.

    >>> kept = np.array([[1, 0], [0, 1]], np.float32)
    >>> keep_varied(kept, np.array([-1, 0], np.float32), 2).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    >>> keep_varied(kept, np.array([0.6, 0.8], np.float32), 2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    everything = np.concatenate([kept, new[None]])
    if len(everything) <= size:
        return everything
    if size == 1:
        return kept
    distances = 1 - everything @ everything.T
    np.fill_diagonal(distances, np.inf)
    first, second = sorted(divmod(int(distances.argmin()), len(everything)))
    without = {row: np.delete(np.delete(distances, row, 0), row, 1).min() for row in (second, first)}
    return np.asarray(np.delete(everything, max(without, key=lambda row: float(without[row])), 0))


def _sharpness(crop: Image) -> float:
    """Return how much fine structure a crop has; a small person's, scaled up to the size of all, has little."""
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.CV_32F).std())

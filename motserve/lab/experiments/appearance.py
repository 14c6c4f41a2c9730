"""Cached embeddings of people in a video: linking with other settings does not run the network again."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.footage import Footage
from motserve.lab.experiments.models import Models
from motserve.pipeline.video_tracker import EmbedFrameBoxes
from motserve.types import FloatArray


class Appearance:
    """Embeds people of a video, or reads their embeddings from the cache. Use it as a context manager.

    New embeddings are stored when it closes without an error.

    Args:
        footage: The video; decoded only if an embedding is missing.
        models: The embedder; loaded only if an embedding is missing.
        cache: Cache of embeddings.
    """

    def __init__(self, footage: Footage, models: Models, cache: Cache) -> None:
        self._footage = footage
        self._models = models
        self._cache = cache
        self._key = {"video": footage.sha256, **models.embedding_key()}
        names, vectors = cache.load_embeddings(self._key) or ([], np.empty((0, 0), np.float32))
        self._known = dict(zip(names, vectors, strict=True))
        self._stored_count = len(self._known)

    def at(self, frame: int) -> EmbedFrameBoxes:
        """Return the function that embeds boxes of a frame."""

        async def embed(boxes: FloatArray) -> FloatArray:
            return self._embed(frame, boxes)

        return embed

    def close(self) -> None:
        """Store new embeddings and release the video."""
        if len(self._known) > self._stored_count:
            self._cache.store_embeddings(self._key, list(self._known), np.stack(list(self._known.values())))
            self._stored_count = len(self._known)
        self._footage.close()

    def _embed(self, frame: int, boxes: FloatArray) -> FloatArray:
        # the exact bits of a box identify it: tracking is deterministic, and another box is another crop
        names = [f"{frame}:{box.tobytes().hex()}" for box in np.ascontiguousarray(boxes, np.float32)]
        missing = [row for row, name in enumerate(names) if name not in self._known]
        if missing:
            vectors = self._models.embedder.embed_boxes(self._footage.image(frame), boxes[missing])
            for row, vector in zip(missing, vectors, strict=True):
                self._known[names[row]] = vector
        return np.stack([self._known[name] for name in names])

    def __enter__(self) -> Appearance:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._footage.close()

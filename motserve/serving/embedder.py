"""The deployment that embeds crops of people of many videos at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config
from motserve.reid import build_embedder
from motserve.serving.batching import GreedyBatcher
from motserve.serving.replica import ModelInfo, batch_metrics, prepare_replica
from motserve.types import FloatArray
from motserve.weights import resolve_weights


class Embedder:
    """Embeds crops; those of different videos share a pass of the network.

    Args:
        config: The configuration, with the device settled.
    """

    def __init__(self, config: Config) -> None:
        prepare_replica(config, config.serving.embedder)
        weights = resolve_weights("reid", config)
        embedder = build_embedder(config.reid, weights)
        embedder.embed(np.zeros((1, config.reid.crop_height, config.reid.crop_width, 3), np.uint8))  # warms up
        self._info = ModelInfo(weights.describe())

        def embed(crops: list[NDArray[np.uint8]]) -> Sequence[FloatArray]:
            return list(embedder.embed(np.stack(crops)))

        self._batcher: GreedyBatcher[NDArray[np.uint8], FloatArray] = GreedyBatcher(
            embed, config.serving.embedder.max_batch, batch_metrics("reid")
        )

    async def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Return `(k, d)` unit vectors for `(k, height, width, 3)` crops, k at least 1."""
        return np.stack(await self._batcher.submit(list(crops)))

    async def info(self) -> ModelInfo:
        """Return which weights are loaded."""
        return self._info

"""The deployment that embeds crops of people of many videos at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config, change_config
from motserve.models.weights import resolve_weights
from motserve.reid import build_embedder
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.batching import GreedyBatcher
from motserve.serving.inference.model_cache import ModelCache, Names
from motserve.serving.inference.replica import ModelInfo, ReplicaObserver, prepare_replica
from motserve.serving.observability.request_context import RequestContext
from motserve.types import FloatArray


@dataclass(frozen=True, slots=True)
class _Model:
    info: ModelInfo
    batcher: GreedyBatcher[NDArray[np.uint8], FloatArray]


class Embedder:
    """Embeds crops of people; crops of different videos share a run of the network.

    Args:
        config: The configuration, with the device resolved.
        deployment: ID of the deployment of the application.
    """

    def __init__(self, config: Config, deployment: str) -> None:
        prepare_replica(config, config.serving.embedder)
        self._config = config
        self._observer = ReplicaObserver("reid", config, config.serving.embedder)
        self._model_cache = ModelCache("reid", self._load, config.serving.reload.max_cached_models)
        active_models = ActiveModels(config.serving.storage_dir, deployment)
        names = active_models.names("reid", config)
        self._model_cache.put(names, self._load(names))
        self._observer.start_gauges(active_models, self._loaded_info)

    async def embed(self, crops: NDArray[np.uint8], names: Names, request_context: RequestContext) -> FloatArray:
        """Return `(k, d)` unit vectors of `(k, height, width, 3)` crops, k at least 1, made with the named weights."""
        with self._observer.request(request_context):
            return np.stack(await (await self._model_cache.get(names)).batcher.submit(list(crops)))

    async def info(self, names: Names) -> ModelInfo:
        """Return name and checksum of the named weights; they are loaded if they are not in memory."""
        return (await self._model_cache.get(names)).info

    def _loaded_info(self, names: Names) -> ModelInfo | None:
        model = self._model_cache.peek(names)
        return None if model is None else model.info

    def _load(self, names: Names) -> _Model:
        config = change_config(self._config, {"reid": {"weights": list(names)}})
        weights = resolve_weights("reid", config)
        embedder = build_embedder(config.reid, weights)
        embedder.embed(np.zeros((1, config.reid.crop_height, config.reid.crop_width, 3), np.uint8))  # warm-up

        def embed(crops: list[NDArray[np.uint8]]) -> Sequence[FloatArray]:
            return list(embedder.embed(np.stack(crops)))

        batcher = GreedyBatcher(embed, config.serving.embedder.max_batch, self._observer.record_pass)
        return _Model(ModelInfo(weights.describe()), batcher)

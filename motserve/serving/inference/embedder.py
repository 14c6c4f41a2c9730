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
    """Embeds crops; those of different videos share a pass of the network.

    Args:
        config: The configuration, with the device settled.
        deployment: ID of the deployment of the application.
    """

    def __init__(self, config: Config, deployment: str) -> None:
        prepare_replica(config, config.serving.embedder)
        self._config = config
        self._observer = ReplicaObserver("reid", config, config.serving.embedder)
        self._shelf = ModelCache("reid", self._load, config.serving.reload.kept_models)
        served = ActiveModels(config.serving.storage_dir, deployment)
        names = served.names("reid", config)
        self._shelf.put(names, self._load(names))
        self._observer.keep_telling(served, self._known)

    async def embed(self, crops: NDArray[np.uint8], names: Names, origin: RequestContext) -> FloatArray:
        """Return `(k, d)` unit vectors for `(k, height, width, 3)` crops, k at least 1, by the model of those names."""
        with self._observer.request(origin):
            return np.stack(await (await self._shelf.get(names)).batcher.submit(list(crops)))

    async def info(self, names: Names) -> ModelInfo:
        """Return which weights the names stand for; they are loaded where they are not."""
        return (await self._shelf.get(names)).info

    def _known(self, names: Names) -> ModelInfo | None:
        model = self._shelf.peek(names)
        return None if model is None else model.info

    def _load(self, names: Names) -> _Model:
        config = change_config(self._config, {"reid": {"weights": list(names)}})
        weights = resolve_weights("reid", config)
        embedder = build_embedder(config.reid, weights)
        embedder.embed(np.zeros((1, config.reid.crop_height, config.reid.crop_width, 3), np.uint8))  # warms up

        def embed(crops: list[NDArray[np.uint8]]) -> Sequence[FloatArray]:
            return list(embedder.embed(np.stack(crops)))

        batcher = GreedyBatcher(embed, config.serving.embedder.max_batch, self._observer.passed)
        return _Model(ModelInfo(weights.describe()), batcher)

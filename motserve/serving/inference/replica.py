"""The deployment of a model, detector or embedder: it answers requests of many videos in shared batches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from motserve.config import Config
from motserve.config.base import Role
from motserve.config.logs import setup_logging
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import ModelInfo, Names
from motserve.serving.inference.batching import GreedyBatcher
from motserve.serving.inference.loading import ConfiguredNetworks, LoadedModel, Networks, load_model
from motserve.serving.inference.model_cache import ModelCache
from motserve.serving.inference.replica_observer import ReplicaObserver
from motserve.serving.observability.request_context import RequestContext


class _BatchedModel(NamedTuple):
    model: LoadedModel
    batcher: GreedyBatcher[Any, Any]


class ModelReplica:
    """Runs a model on the items of requests, frames or crops; requests of different videos share a run of the network.

    Args:
        role: Which model.
        config: The configuration, with the device resolved.
        deployment: ID of the deployment of the application.
        networks: Builds the network; None for the one that the configuration names.
    """

    def __init__(self, role: Role, config: Config, deployment: str, networks: Networks | None = None) -> None:
        setup_logging(config.logging)
        self._networks = networks or ConfiguredNetworks()
        self._role = role
        self._config = config
        self._limits = config.serving.detector if role == "detector" else config.serving.embedder
        _set_threads(self._limits.threads)
        self._observer = ReplicaObserver(role, config, self._limits)
        self._model_cache = ModelCache(role, self._load, config.serving.reload.max_cached_models)
        active_models = ActiveModels(config.serving.storage_dir, deployment)
        names = active_models.names(role, config)
        self._model_cache.put(names, self._load(names))
        self._observer.start_gauges(active_models, self.info)

    async def infer(self, items: Iterable[Any], names: Names, request_context: RequestContext) -> Any:
        """Run the named weights on the items of a request.

        Args:
            items: Frames of the detector, or `(k, height, width, 3)` crops of the embedder, k at least 1.
            names: Names of the weights; they are loaded if they are not in memory.
            request_context: The request, for logs and traces.

        Returns:
            The detections in each frame, or `(k, d)` unit vectors of the crops.
        """
        with self._observer.request(request_context):
            loaded = await self._model_cache.get(names)
            return loaded.model.join(await loaded.batcher.submit(list(items)))

    async def info(self, names: Names) -> ModelInfo:
        """Return checksum and classes of the named weights; they are loaded if they are not in memory."""
        return (await self._model_cache.get(names)).model.info

    def _load(self, names: Names) -> _BatchedModel:
        model = load_model(self._role, self._config, names, self._networks)
        return _BatchedModel(model, GreedyBatcher(model.run, self._limits.max_batch, self._observer.record_pass))


def _set_threads(threads: int) -> None:
    """Set the threads of the networks: Ray would limit them to the CPUs reserved for the replica.

    OpenVINO and a PyTorch that is loaded later take the number from the environment.
    """
    count = threads or os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(count)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)

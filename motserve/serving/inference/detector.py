"""The deployment that detects people in frames of many videos at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from motserve.config import Config, change_config
from motserve.detection import build_detector
from motserve.models.weights import resolve_weights
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.batching import GreedyBatcher
from motserve.serving.inference.model_cache import ModelCache, Names
from motserve.serving.inference.replica import ModelInfo, ReplicaObserver, prepare_replica
from motserve.serving.observability.request_context import RequestContext
from motserve.types import Detections, Image


@dataclass(frozen=True, slots=True)
class _Model:
    info: ModelInfo
    batcher: GreedyBatcher[Image, Detections]


class Detector:
    """Detects people in chunks of frames; chunks of different videos share a run of the network.

    Args:
        config: The configuration, with the device resolved.
        deployment: ID of the deployment of the application.
    """

    def __init__(self, config: Config, deployment: str) -> None:
        prepare_replica(config, config.serving.detector)
        self._config = config
        self._observer = ReplicaObserver("detector", config, config.serving.detector)
        self._model_cache = ModelCache("detector", self._load, config.serving.reload.max_cached_models)
        active_models = ActiveModels(config.serving.storage_dir, deployment)
        names = active_models.names("detector", config)
        self._model_cache.put(names, self._load(names))
        self._observer.start_gauges(active_models, self._loaded_info)

    async def detect(self, images: list[Image], names: Names, request_context: RequestContext) -> list[Detections]:
        """Return the detections in each frame of a chunk, made with the named weights."""
        with self._observer.request(request_context):
            return await (await self._model_cache.get(names)).batcher.submit(images)

    async def info(self, names: Names) -> ModelInfo:
        """Return the checksum and the classes of the named weights; they are loaded if they are not in memory."""
        return (await self._model_cache.get(names)).info

    def _loaded_info(self, names: Names) -> ModelInfo | None:
        model = self._model_cache.peek(names)
        return None if model is None else model.info

    def _load(self, names: Names) -> _Model:
        config = change_config(self._config, {"detector": {"weights": list(names)}})
        weights = resolve_weights("detector", config)
        detector = build_detector(config.detector, weights)
        side = config.detector.image_size
        detector.detect([np.zeros((side, side, 3), np.uint8)])  # warm-up: the first run is slow
        info = ModelInfo(weights.describe(), dict(detector.class_names))
        batcher = GreedyBatcher(detector.detect, config.serving.detector.max_batch, self._observer.record_pass)
        return _Model(info, batcher)

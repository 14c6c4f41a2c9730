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
    """Detects in chunks of frames; chunks of different videos share a pass of the network.

    Args:
        config: The configuration, with the device settled.
        deployment: ID of the deployment of the application.
    """

    def __init__(self, config: Config, deployment: str) -> None:
        prepare_replica(config, config.serving.detector)
        self._config = config
        self._observer = ReplicaObserver("detector", config, config.serving.detector)
        self._shelf = ModelCache("detector", self._load, config.serving.reload.kept_models)
        served = ActiveModels(config.serving.storage_dir, deployment)
        names = served.names("detector", config)
        self._shelf.put(names, self._load(names))
        self._observer.keep_telling(served, self._known)

    async def detect(self, images: list[Image], names: Names, origin: RequestContext) -> list[Detections]:
        """Return the detections of each frame of a chunk, by the model of those names."""
        with self._observer.request(origin):
            return await (await self._shelf.get(names)).batcher.submit(images)

    async def info(self, names: Names) -> ModelInfo:
        """Return which weights the names stand for and which classes these know; they are loaded where they are not."""
        return (await self._shelf.get(names)).info

    def _known(self, names: Names) -> ModelInfo | None:
        model = self._shelf.peek(names)
        return None if model is None else model.info

    def _load(self, names: Names) -> _Model:
        config = change_config(self._config, {"detector": {"weights": list(names)}})
        weights = resolve_weights("detector", config)
        detector = build_detector(config.detector, weights)
        side = config.detector.image_size
        detector.detect(
            [np.zeros((side, side, 3), np.uint8)]
        )  # the first pass is slow, and no video should wait for it
        info = ModelInfo(weights.describe(), dict(detector.class_names))
        return _Model(info, GreedyBatcher(detector.detect, config.serving.detector.max_batch, self._observer.passed))

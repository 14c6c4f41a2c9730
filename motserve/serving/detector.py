"""The deployment that detects people in frames of many videos at once."""

from __future__ import annotations

import numpy as np

from motserve.config import Config
from motserve.detection import build_detector
from motserve.serving.batching import GreedyBatcher
from motserve.serving.replica import ModelInfo, batch_metrics, prepare_replica
from motserve.types import Detections, Image
from motserve.weights import resolve_weights


class Detector:
    """Detects in chunks of frames; chunks of different videos share a pass of the network.

    Args:
        config: The configuration, with the device settled.
    """

    def __init__(self, config: Config) -> None:
        prepare_replica(config, config.serving.detector)
        weights = resolve_weights("detector", config)
        detector = build_detector(config.detector, weights)
        side = config.detector.image_size
        detector.detect(
            [np.zeros((side, side, 3), np.uint8)]
        )  # the first pass is slow, and no video should wait for it
        self._info = ModelInfo(weights.describe(), dict(detector.class_names))
        self._batcher: GreedyBatcher[Image, Detections] = GreedyBatcher(
            detector.detect, config.serving.detector.max_batch, batch_metrics("detector")
        )

    async def detect(self, images: list[Image]) -> list[Detections]:
        """Return the detections of each frame of a chunk."""
        return await self._batcher.submit(images)

    async def info(self) -> ModelInfo:
        """Return which weights are loaded and which classes they know."""
        return self._info

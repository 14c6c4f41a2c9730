"""Detector and embedder in this process, behind the coroutines that the pipeline calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config
from motserve.detection import build_detector
from motserve.models.weights import Weights, resolve_weights
from motserve.reid import build_embedder
from motserve.reid.embedder import CropEmbedder
from motserve.types import Detections, FloatArray, Image

Result = TypeVar("Result")


class LocalModels:
    """The two networks of one process. Calls run one at a time, in a separate thread.

    Args:
        config: The configuration.

    Raises:
        WeightsUnavailable: Configured weights cannot be loaded.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        detector_weights = resolve_weights("detector", config)
        self._detector = build_detector(config.detector, detector_weights)
        self._reid_weights: Weights | None = resolve_weights("reid", config) if config.needs_embeddings else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.models = {
            "detector": detector_weights.describe(),
            "reid": self._reid_weights.describe() if self._reid_weights else None,
        }
        """Description of the weights by role, for result files; None for a role without weights."""

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each class index of the detector."""
        return self._detector.class_names

    async def detect(self, images: list[Image]) -> list[Detections]:
        """Detect in a chunk of frames."""
        return await self._run(lambda: self._detector.detect(images))

    async def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed crops of people."""
        return await self._run(lambda: self._embedder.embed(crops))

    async def embed_boxes(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Embed boxes of a picture."""
        return await self._run(lambda: self._embedder.embed_boxes(image, boxes))

    @cached_property
    def _embedder(self) -> CropEmbedder:
        """The embedder, loaded at the first embedding; many videos need none."""
        if self._reid_weights is None:
            raise RuntimeError("re-identification is off, there is no embedder")
        return build_embedder(self._config.reid, self._reid_weights)

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

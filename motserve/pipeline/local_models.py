"""Detector and embedder in this process, behind the coroutines that the pipeline calls."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from motserve.base import DetectorBase
from motserve.config import Config
from motserve.config.base import Role
from motserve.detection import build_detector
from motserve.detection.backend import expected_backend as detector_backend
from motserve.models.backend import describe_backend
from motserve.models.weights import Weights, resolve_weights
from motserve.reid import build_embedder
from motserve.reid.embedder import CropEmbedder
from motserve.reid.openvino_embedder import expected_backend as reid_backend
from motserve.types import Detections, FloatArray, Image

Result = TypeVar("Result")


class LocalModels:
    """The two networks of one process. Calls run one at a time, in a separate thread.

    Each network is loaded at its first use: many videos need no embedder, and cached detections no detector.

    Args:
        config: The configuration.
        has_detector: Whether there is a detector; without one, only embeddings can be computed.

    Attributes:
        detector_weights: Weights of the detector; None without one.

    Raises:
        WeightsUnavailable: Configured weights are not available.
    """

    def __init__(self, config: Config, has_detector: bool = True) -> None:
        self._config = config
        self.detector_weights = resolve_weights("detector", config) if has_detector else None
        self._reid_weights: Weights | None = resolve_weights("reid", config) if config.needs_embeddings else None
        self._lock = Lock()
        self._built_detector: DetectorBase | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        weakref.finalize(self, self._thread.shutdown, wait=False)
        self._backends: dict[Role, str] = {}

    @property
    def models(self) -> dict[str, dict[str, str] | None]:
        """Description of the weights by role, for result files, and of the library behind each network.

        A network that is not loaded, because its results are cached, has the library that is expected for it. None for
        a role without weights.
        """
        folder, detector, reid = self._config.cache_dir, self.detector_weights, self._reid_weights
        backends = dict(self._backends)
        if detector is not None and "detector" not in backends:
            backends["detector"] = detector_backend(self._config.detector, detector, folder)
        if reid is not None and "reid" not in backends:
            backends["reid"] = reid_backend(self._config.reid, reid, folder)
        roles: dict[Role, Weights | None] = {"detector": detector, "reid": reid}
        return {
            role: {**weights.describe(), **describe_backend(backends[role])} if weights else None
            for role, weights in roles.items()
        }

    @property
    def detector_backend(self) -> str | None:
        """The `backend` of the detector; None until it is loaded."""
        return self._backends.get("detector")

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each class index of the detector.

        Raises:
            WeightsUnavailable: The detector cannot be loaded.
        """
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

    @property
    def _detector(self) -> DetectorBase:
        with self._lock:  # the caller's thread may need its class names
            if self._built_detector is None:
                if self.detector_weights is None:
                    raise RuntimeError("detections are given, there is no detector")
                detector = build_detector(self._config.detector, self.detector_weights, self._config.cache_dir)
                self._backends["detector"] = detector.backend
                self._built_detector = detector
            return self._built_detector

    @cached_property
    def _embedder(self) -> CropEmbedder:
        if self._reid_weights is None:
            raise RuntimeError("re-identification is off, there is no embedder")
        embedder = build_embedder(self._config.reid, self._reid_weights, self._config.cache_dir)
        self._backends["reid"] = embedder.backend
        return embedder

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

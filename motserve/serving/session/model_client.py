"""Calls the detector and the embedder for the session of one video."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.serve.handle import DeploymentHandle

from motserve.serving.inference.model_cache import Names
from motserve.serving.inference.replica import ModelInfo
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.session.detector_switch import DetectorSwitch
from motserve.serving.session.retry import Retry


class ModelClient:
    """The models of one video.

    Args:
        detector: Handle of the detector deployment.
        embedder: Handle of the embedder deployment.
        retry: Sends the requests.
        context: Returns the context of the current request.

    Attributes:
        embedder_names: Names of the embedder, which `embed` uses; empty if the video needs no embeddings.
    """

    def __init__(
        self,
        detector: DeploymentHandle[Any],
        embedder: DeploymentHandle[Any],
        retry: Retry,
        context: Callable[[], RequestContext],
    ) -> None:
        self.embedder_names: Names = ()
        self._detector = detector
        self._embedder = embedder
        self._retry = retry
        self._context = context

    async def detector_info(self, names: Names) -> ModelInfo:
        """Have a replica load a detector; return its weights and class names."""
        return await self._retry.call(lambda: self._detector.info.remote(names))

    async def embedder_info(self, names: Names) -> ModelInfo:
        """Have a replica load an embedder; return its weights."""
        return await self._retry.call(lambda: self._embedder.info.remote(names))

    async def detect(self, detector_switch: DetectorSwitch, images: list[Any]) -> list[Any]:
        """Return the detections in each image of the next chunk."""
        names = await detector_switch.next_chunk(len(images))
        # one object in shared memory, which a retry uses again
        chunk = ray.put(images)
        context = self._context()
        return await self._retry.call(lambda: self._detector.detect.remote(chunk, names, context))

    async def embed(self, crops: Any) -> Any:
        """Return the embeddings of crops."""
        context = self._context()
        return await self._retry.call(lambda: self._embedder.embed.remote(crops, self.embedder_names, context))

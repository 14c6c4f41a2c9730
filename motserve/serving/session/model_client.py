"""Calls the detector and the embedder for the session of one video."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from motserve.config.base import Role
from motserve.serving.inference.backends import Backends, ModelInfo, Names
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.session.retry import Retry
from motserve.types import Detections, FloatArray, Image


class ModelClient:
    """Sends requests to the model deployments, and sends them again if a replica dies.

    Args:
        backends: The deployments.
        retry: Sends the requests.
        context: Returns the context of the current request.
        share: Puts frames into shared memory, so that a retry does not copy them again; returns a reference to them.
    """

    def __init__(
        self,
        backends: Backends,
        retry: Retry,
        context: Callable[[], RequestContext],
        share: Callable[[Any], Any] = ray.put,
    ) -> None:
        self._backends = backends
        self._retry = retry
        self._context = context
        self._share = share

    async def info(self, role: Role, names: Names) -> ModelInfo:
        """Have a replica load a model; return its weights and class names.

        Raises:
            NotReady: No replica answers.
            Exception: The error of the replica.
        """
        return await self._retry.call(lambda: self._backends.model(role).info.remote(names))

    async def detect(self, images: Sequence[Image], names: Names) -> list[Detections]:
        """Return the detections in each image. For errors see `info`."""
        context = self._context()
        chunk = await asyncio.to_thread(self._share, images)  # a copy of megabytes
        return await self._retry.call(lambda: self._backends.detector.infer.remote(chunk, names, context))

    async def embed(self, crops: NDArray[np.uint8], names: Names) -> FloatArray:
        """Return `(k, d)` unit vectors of `(k, height, width, 3)` crops. For errors see `info`."""
        context = self._context()
        return await self._retry.call(lambda: self._backends.embedder.infer.remote(crops, names, context))

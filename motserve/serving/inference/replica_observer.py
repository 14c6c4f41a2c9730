"""Records the work of a model replica in metrics, spans and the log."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from motserve.config import Config, ReplicaConfig
from motserve.config.base import Role
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import ModelInfo, Names
from motserve.serving.inference.batching import Pass
from motserve.serving.observability.metrics import STALE, ModelMetrics, gpu_memory
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.observability.tracing import Tracing
from motserve.serving.periodic import repeat

logger = logging.getLogger("motserve.models")


class ReplicaObserver:
    """Records the work of a replica in metrics, spans and the log.

    Args:
        role: The role of its model.
        config: The configuration.
        replica: The section of the configuration for this deployment.
    """

    def __init__(self, role: Role, config: Config, replica: ReplicaConfig) -> None:
        self._role = role
        self._refresh_s = config.serving.metrics.refresh_s
        self._metrics = ModelMetrics(role, replica.max_batch)
        self._tracing = Tracing(config.serving.tracing, f"motserve-{role}")
        self._refreshing: asyncio.Task[None] | None = None

    def record_pass(self, done: Pass) -> None:
        """Record one run of the model."""
        self._metrics.record_pass(done)
        self._tracing.record_pass("model", done)

    @contextmanager
    def request(self, context: RequestContext) -> Iterator[None]:
        """Handle a request: log lines name the request and its video, and its trace continues."""
        with context.logged(), self._tracing.span(self._role, "server", context.trace, context.span_attributes):
            yield

    def start_gauges(self, active_models: ActiveModels, prepare: Callable[[Names], Awaitable[ModelInfo]]) -> None:
        """Start a task that updates the gauges every `serving.metrics.refresh_s` seconds.

        It also loads a model that was activated since: a reload has only one replica load it, and the first request
        to each other one would wait for that.

        Args:
            active_models: The models that new videos get.
            prepare: Loads a model if it is not loaded, and describes it.
        """

        async def refresh() -> None:
            if (torch := sys.modules.get("torch")) is not None:  # without it, nothing uses a GPU
                self._metrics.gpu(gpu_memory(torch.cuda))
            names = await asyncio.to_thread(active_models.current, self._role)
            if names is not None:
                self._metrics.model((await prepare(names)).weights)

        self._refreshing = asyncio.create_task(repeat(refresh, self._refresh_s, logger, STALE))

"""What the replicas that run a network have in common: threads, metrics and spans, a word on their weights."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from motserve.config import Config, ReplicaConfig
from motserve.config.base import Role
from motserve.config.logs import setup_logging
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.batching import Pass
from motserve.serving.inference.model_cache import Names
from motserve.serving.observability.metrics import STALE, ModelMetrics, gpu_memory
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.observability.tracing import Tracing
from motserve.serving.periodic import repeat

logger = logging.getLogger("motserve.models")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a deployment says of its model.

    Attributes:
        weights: Name and checksum of the weights, and why preferred ones could not be had.
        class_names: Name of each class index; empty for an embedder.
    """

    weights: dict[str, str]
    class_names: dict[int, str] = field(default_factory=dict)


def prepare_replica(config: Config, replica: ReplicaConfig) -> None:
    """Set up logs and threads; Ray limits threads to the CPUs reserved for a replica, which would cap inference."""
    import torch

    setup_logging(config.logging)
    torch.set_num_threads(replica.threads or os.cpu_count() or 1)


class ReplicaObserver:
    """Tells of what a replica does: in metrics, in spans, in the log.

    Args:
        role: The part of its model.
        config: The configuration.
        replica: The part of it that is about this deployment.
    """

    def __init__(self, role: Role, config: Config, replica: ReplicaConfig) -> None:
        self._role = role
        self._refresh_s = config.serving.metrics.refresh_s
        self._metrics = ModelMetrics(role, replica.max_batch)
        self._tracing = Tracing(config.serving.tracing, f"motserve-{role}")
        self._refreshing: asyncio.Task[None] | None = None

    def passed(self, done: Pass) -> None:
        """Tell of one run of the model."""
        self._metrics.passed(done)
        self._tracing.passed("model", done)

    @contextmanager
    def request(self, origin: RequestContext) -> Iterator[None]:
        """Work for somebody: their request and video are named in the log, and their trace goes on."""
        with origin.logged(), self._tracing.span(self._role, "server", origin.trace, origin.about):
            yield

    def keep_telling(self, served: ActiveModels, known: Callable[[Names], ModelInfo | None]) -> None:
        """Set the gauges every few seconds from now on.

        Args:
            served: What new videos get.
            known: Tells what a model is; None where it is not loaded.
        """

        async def refresh() -> None:
            import torch

            self._metrics.gpu(gpu_memory(torch.cuda))
            names = await asyncio.to_thread(served.current, self._role)
            info = None if names is None else known(names)
            if info is not None:
                self._metrics.model(info.weights)

        self._refreshing = asyncio.create_task(repeat(refresh, self._refresh_s, logger, STALE))

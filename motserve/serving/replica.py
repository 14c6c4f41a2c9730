"""What the replicas that run a network have in common: threads, metrics, a word on their weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from ray.serve import metrics

from motserve.config import Config, ReplicaConfig
from motserve.logs import setup_logging
from motserve.weights import Role

_BATCH_BOUNDARIES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]


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


def batch_metrics(role: Role) -> Callable[[int], None]:
    """Return a function that counts batches.

    It feeds `motserve_<role>_batch_size`, a histogram of the pictures in a pass of the network, and
    `motserve_<role>_items_total`, the pictures processed.
    """
    sizes = metrics.Histogram(
        f"motserve_{role}_batch_size", description="Pictures in a pass of the network.", boundaries=_BATCH_BOUNDARIES
    )
    total = metrics.Counter(f"motserve_{role}_items_total", description="Pictures processed.")

    def observe(size: int) -> None:
        sizes.observe(size)
        total.inc(size)

    return observe

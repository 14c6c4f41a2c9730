"""Tells which nodes of the Ray cluster are being drained, that is, will be removed soon, and whether CPUs are short.

Ray marks a node as draining when its autoscaler or `ray drain-node` says so, and when `ray start` gets a SIGTERM,
which is how Kubernetes ends a pod. From then on Ray schedules nothing there, and Ray Serve moves its replicas. Other
actors stay until they end by themselves or the node is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import ray
from ray._private.state import state
from ray._private.worker import global_worker
from ray.autoscaler.v2.sdk import get_cluster_resource_state

_ROUNDING: Final = 1e-6  # Ray counts CPUs in ten thousandths


def is_draining() -> bool:
    """Return whether the node of the calling actor is being drained.

    Ray 2.60 has no public interface for it; Ray Serve's controller reads the same private state.
    """
    return ray.get_runtime_context().get_node_id() in state.get_draining_nodes()


def all_draining() -> bool:
    """Return whether no node is left that Ray could place anything on: the whole cluster is being drained."""
    draining = state.get_draining_nodes()
    nodes: list[dict[str, Any]] = ray.nodes()
    return not any(
        node["Alive"] and node["NodeID"] not in draining and node["Resources"].get("CPU", 0) > 0 for node in nodes
    )


def has_free_cpus(cpus: float) -> bool:
    """Return whether Ray could reserve so many CPUs now, as far as is known without the nodes in detail."""
    available: dict[str, float] = ray.available_resources()
    return available.get("CPU", 0.0) >= cpus and not all_draining()


def waits_for_cpus(held: float) -> bool:
    """Return whether anything, such as a session or a replica, waits for CPUs and could have them with some more.

    What waits for more than that, or for a GPU, is left out: it would not be helped. Ray 2.60 has no public interface
    for it; its autoscaler reads the same state.

    Args:
        held: CPUs that the caller could give back.
    """
    worker: Any = global_worker
    state = get_cluster_resource_state(worker.gcs_client)
    return any(
        _fits(wanted.request.resources_bundle, node.available_resources, held)
        for wanted in state.pending_resource_requests
        for node in state.node_states
    )


def _fits(wanted: Mapping[str, float], available: Mapping[str, float], held: float) -> bool:
    if not wanted.get("CPU"):
        return False
    more = {"CPU": held + _ROUNDING}
    return all(amount <= available.get(name, 0.0) + more.get(name, 0.0) for name, amount in wanted.items())

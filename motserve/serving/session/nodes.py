"""Tells which nodes of the Ray cluster are being drained, that is, will be removed soon.

Ray marks a node as draining when its autoscaler or `ray drain-node` says so, and when `ray start` gets a SIGTERM,
which is how Kubernetes ends a pod. From then on Ray schedules nothing there, and Ray Serve moves its replicas. Other
actors stay until they end by themselves or the node is removed.
"""

from __future__ import annotations

from typing import Any

import ray
from ray._private.state import state


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

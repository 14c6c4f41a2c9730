"""Tells which machines Ray wants to be left: they are about to be taken away.

Ray marks a node as draining when its autoscaler or `ray drain-node` says so, and when `ray start` gets a SIGTERM,
which is how Kubernetes ends a pod. Nothing new is placed there from then on, and Ray Serve moves its replicas. Actors
that are not Ray Serve's stay until they leave by themselves or the node is gone.
"""

from __future__ import annotations

from typing import Any

import ray
from ray._private.state import state


def is_draining() -> bool:
    """Tell whether the node of the calling actor is being drained.

    There is no public interface in Ray 2.60; Ray Serve's controller asks the same of Ray's control plane.
    """
    return ray.get_runtime_context().get_node_id() in state.get_draining_nodes()


def all_draining() -> bool:
    """Tell whether there is no node left that anything could be placed on: the whole cluster is being taken away."""
    draining = state.get_draining_nodes()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return not any(
        node["Alive"] and node["NodeID"] not in draining and node["Resources"].get("CPU", 0) > 0 for node in nodes
    )

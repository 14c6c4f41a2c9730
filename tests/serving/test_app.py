"""What the application is built of, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from motserve.config import load_config
from motserve.serving.app import compose


@pytest.mark.parametrize(
    ("cpus", "max_replicas", "expected", "per_node"),
    [
        ([4.0], 2, 1, None),
        ([0.0, 4.0], 2, 1, None),
        ([4.0, 4.0], 2, 2, 1),
        ([4.0, 4.0, 4.0], 1, 1, 1),
        ([0.0, 4.0, 4.0], 4, 2, 2),
    ],
)
def test_another_ingress_replica_where_another_machine_can_run_it(
    cpus: list[float], max_replicas: int, expected: int, per_node: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": count}} for count in cpus]
    nodes.append({"Alive": False, "Resources": {"CPU": 4.0}})
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    ingress = {"autoscaling": {"max_replicas": max_replicas}}
    application: Any = compose(load_config([{"serving": {"accelerator": "cpu", "ingress": ingress}}]))
    deployment = application._bound_deployment
    assert deployment.name == "Ingress"
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (expected, max_replicas)
    assert deployment._replica_config.max_replicas_per_node == per_node

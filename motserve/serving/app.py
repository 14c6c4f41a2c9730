"""Builds the Ray Serve application from typed arguments: `serve run serve_config.yaml`."""

# No `from __future__ import annotations`: Ray Serve reads the annotation of `build` to turn YAML into typed arguments.
import math
import uuid
from typing import Any

import ray
from ray import serve
from ray.serve import Application, Deployment

from motserve.config import Config, load_config
from motserve.config.serving import DeploymentConfig, IngressConfig, ReplicaConfig
from motserve.models.mlflow_store import placed
from motserve.serving.api import Ingress
from motserve.serving.arguments import ServeArgs
from motserve.serving.inference.backends import Backends
from motserve.serving.inference.loading import Networks
from motserve.serving.inference.replica import ModelReplica
from motserve.serving.observability.metrics_collector import MetricsCollector
from motserve.serving.observability.tracing import otlp_exporter

_MAX_CONCURRENT_REPORTS = 1000  # each takes well under a millisecond


def build(args: ServeArgs) -> Application:
    """Return the application. Environment variables override `args`, as they do on the command line.

    Raises:
        InvalidConfig: The configuration is invalid.
    """
    return compose(load_config([*args.config, args.settings]))


def compose(config: Config, networks: Networks | None = None) -> Application:
    """Bind all deployments, with resources from the configuration and the GPUs of this cluster.

    Args:
        config: The configuration.
        networks: Builds the networks of the replicas; None for those that the configuration names.

    Raises:
        InvalidConfig: Tracing is on, and the library that exports traces is not installed.
    """
    config = _with_absolute_paths(config)
    serving = config.serving
    if serving.tracing.endpoint is not None:
        otlp_exporter(
            serving.tracing.endpoint, serving.tracing.timeout_s
        ).shutdown()  # fails here rather than in every replica
    gpu = serving.accelerator == "gpu" or (serving.accelerator == "auto" and _cluster_has_gpus())
    models = _with_devices(config, gpu)
    deployment = uuid.uuid4().hex
    collector = serve.deployment(
        num_replicas=1,
        max_ongoing_requests=_MAX_CONCURRENT_REPORTS,
        ray_actor_options={"num_cpus": serving.metrics.cpus},
    )
    # typed as Any, because Ray Serve passes handles to the ingress in place of these applications
    detector: Any = _model("Detector", serving.detector, gpu).bind("detector", models, deployment, networks)
    embedder: Any = _model("Embedder", serving.embedder, gpu).bind("reid", models, deployment, networks)
    metrics: Any = collector(MetricsCollector).bind(config)
    nodes = _nodes_for_replicas()
    ingress_config = _with_another(serving.ingress) if nodes > 1 else serving.ingress
    ingress = _deployment(serve.ingress()(Ingress), "Ingress", ingress_config, {"num_cpus": serving.ingress.cpus})
    if nodes > 1:  # otherwise the replicas of a node that is lost move to another one, and stay there
        ingress = ingress.options(max_replicas_per_node=math.ceil(ingress_config.autoscaling.max_replicas / nodes))
    return ingress.bind(config, deployment, Backends(detector, embedder, metrics))


def _model(name: str, config: ReplicaConfig, gpu: bool) -> Deployment:
    return _deployment(ModelReplica, name, config, {"num_cpus": config.cpus, "num_gpus": config.gpus if gpu else 0})


def _deployment(body: type[Any], name: str, config: DeploymentConfig, resources: dict[str, float]) -> Deployment:
    decorate = serve.deployment(
        name=name,
        ray_actor_options=resources,
        max_ongoing_requests=config.max_ongoing_requests,
        autoscaling_config=config.autoscaling.model_dump(),
        health_check_period_s=config.health_check_period_s,
        health_check_timeout_s=config.health_check_timeout_s,
    )
    return decorate(body)


def _cluster_has_gpus() -> bool:
    resources: dict[str, float] = ray.cluster_resources()
    return resources.get("GPU", 0) > 0


def _nodes_for_replicas() -> int:
    nodes: list[dict[str, Any]] = ray.nodes() if ray.is_initialized() else []
    return len([node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) > 0])


def _with_another(ingress: IngressConfig) -> IngressConfig:
    """Have two replicas at least, which Ray Serve spreads over nodes, so that the service answers when one is lost."""
    autoscaling = ingress.autoscaling
    least = max(autoscaling.min_replicas, min(2, autoscaling.max_replicas))
    return ingress.model_copy(update={"autoscaling": autoscaling.model_copy(update={"min_replicas": least})})


def _with_absolute_paths(config: Config) -> Config:
    """Make paths absolute: the working directory of replicas may differ from that of this process."""
    serving = config.serving.model_copy(update={"storage_dir": config.serving.storage_dir.absolute()})
    return config.model_copy(
        update={
            "serving": serving,
            "models_dir": config.models_dir.absolute(),
            "cache_dir": config.cache_dir.absolute(),
            "mlflow": placed(config.mlflow),
        }
    )


def _with_devices(config: Config, gpu: bool) -> Config:
    """Resolve `auto` devices: a replica that has reserved no GPU must not use one that others have reserved."""
    if gpu:
        return config
    sections = {
        name: section.model_copy(update={"device": "cpu"})
        for name, section in (("detector", config.detector), ("reid", config.reid))
        if section.device == "auto"
    }
    return config.model_copy(update=sections)

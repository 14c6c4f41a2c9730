"""What the callers of the deployments share: their handles, names of weights, and the description of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from motserve.config.base import Role

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

Names: TypeAlias = tuple[str, ...]
"""Names of weights in order of preference; those from the registry name an exact version."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Description of a loaded model.

    Attributes:
        weights: Name and checksum of the weights, and why preferred ones were not available.
        class_names: Name of each class index; empty for an embedder.
    """

    weights: dict[str, str]
    class_names: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backends:
    """The deployments behind ingress and sessions.

    Attributes:
        detector: Handle of the detector deployment.
        embedder: Handle of the embedder deployment.
        metrics: Handle of the deployment that collects the metrics of all videos.
    """

    detector: DeploymentHandle[Any]
    embedder: DeploymentHandle[Any]
    metrics: DeploymentHandle[Any]

    def model(self, role: Role) -> DeploymentHandle[Any]:
        """Return the handle of a model deployment."""
        return self.detector if role == "detector" else self.embedder

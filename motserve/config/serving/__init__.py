"""The section `serving` of the configuration: resources, scaling, limits and storage of the service."""

from motserve.config.serving.receiving import ProbeConfig, UploadsConfig
from motserve.config.serving.section import (
    AutoscalingConfig,
    DeploymentConfig,
    IdentitiesConfig,
    IngressConfig,
    MetricsConfig,
    ReloadConfig,
    ReplicaConfig,
    ServingConfig,
    SessionConfig,
    TracingConfig,
)

__all__ = [
    "AutoscalingConfig",
    "DeploymentConfig",
    "IdentitiesConfig",
    "IngressConfig",
    "MetricsConfig",
    "ProbeConfig",
    "ReloadConfig",
    "ReplicaConfig",
    "ServingConfig",
    "SessionConfig",
    "TracingConfig",
    "UploadsConfig",
]

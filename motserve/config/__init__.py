"""The one configuration tree: every field described and bounded, unknown keys refused."""

from motserve.config.evaluation import EvaluationConfig, MlflowConfig, ParameterSpace, RerankConfig, TuningConfig
from motserve.config.sections import (
    DetectorConfig,
    GalleryConfig,
    KalmanConfig,
    LoggingConfig,
    PipelineConfig,
    ReIDConfig,
    TrackerConfig,
    VideoConfig,
)
from motserve.config.serving import ReplicaConfig, ServingConfig
from motserve.config.tree import Config, change_config, load_config, parse_overrides

__all__ = [
    "Config",
    "DetectorConfig",
    "EvaluationConfig",
    "GalleryConfig",
    "KalmanConfig",
    "LoggingConfig",
    "MlflowConfig",
    "ParameterSpace",
    "PipelineConfig",
    "ReIDConfig",
    "ReplicaConfig",
    "RerankConfig",
    "ServingConfig",
    "TrackerConfig",
    "TuningConfig",
    "VideoConfig",
    "change_config",
    "load_config",
    "parse_overrides",
]

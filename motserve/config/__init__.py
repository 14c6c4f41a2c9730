"""The one configuration tree: every field described and bounded, unknown keys refused."""

from motserve.config.evaluation import EvaluationConfig, MlflowConfig, ParameterSpace, RerankConfig, TuningConfig
from motserve.config.sections import (
    DetectorConfig,
    GalleryConfig,
    LoggingConfig,
    PipelineConfig,
    ReIDConfig,
    VideoConfig,
)
from motserve.config.serving import ReplicaConfig, ServingConfig
from motserve.config.tracker import (
    DEFAULT_TRACKER,
    PUBLISHED,
    TRACKERS,
    AppearanceConfig,
    BotSortConfig,
    ByteTrackConfig,
    CameraConfig,
    CascadeConfig,
    KalmanConfig,
    LevelConfig,
    OcSortConfig,
    RecoveryConfig,
    SortConfig,
    TrackerConfig,
)
from motserve.config.tree import Config, change_config, load_config, parse_overrides

__all__ = [
    "DEFAULT_TRACKER",
    "PUBLISHED",
    "TRACKERS",
    "AppearanceConfig",
    "BotSortConfig",
    "ByteTrackConfig",
    "CameraConfig",
    "CascadeConfig",
    "Config",
    "DetectorConfig",
    "EvaluationConfig",
    "GalleryConfig",
    "KalmanConfig",
    "LevelConfig",
    "LoggingConfig",
    "MlflowConfig",
    "OcSortConfig",
    "ParameterSpace",
    "PipelineConfig",
    "ReIDConfig",
    "RecoveryConfig",
    "ReplicaConfig",
    "RerankConfig",
    "ServingConfig",
    "SortConfig",
    "TrackerConfig",
    "TuningConfig",
    "VideoConfig",
    "change_config",
    "load_config",
    "parse_overrides",
]

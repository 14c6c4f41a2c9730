"""The configuration tree: every field has a description and bounds, unknown keys are refused."""

from motserve.config.detector import DetectorConfig
from motserve.config.disk import DiskConfig
from motserve.config.evaluation import (
    CalibrationConfig,
    EvaluationConfig,
    MlflowConfig,
    ParameterSpace,
    RerankConfig,
    TuningConfig,
)
from motserve.config.logging import LoggingConfig
from motserve.config.observability import MetricsConfig, TracingConfig
from motserve.config.pipeline import PipelineConfig
from motserve.config.postprocessing import InterpolationConfig, LinkingConfig, RegroupingConfig
from motserve.config.reid import GalleryConfig, MotionGateConfig, ReIDConfig, TrustConfig
from motserve.config.serving import IdentitiesConfig, ReplicaConfig, ServingConfig
from motserve.config.tracker import (
    DEFAULT_TRACKER,
    PUBLISHED,
    TRACKERS,
    AppearanceConfig,
    BotSortConfig,
    ByteTrackConfig,
    CameraConfig,
    CascadeConfig,
    DeepSortConfig,
    KalmanConfig,
    LevelConfig,
    OcSortConfig,
    RecoveryConfig,
    SortConfig,
    StrongSortConfig,
    TimedKalmanConfig,
    TrackerConfig,
)
from motserve.config.tree import Config, change_config, load_config, parse_overrides
from motserve.config.video import VideoConfig

__all__ = [
    "DEFAULT_TRACKER",
    "PUBLISHED",
    "TRACKERS",
    "AppearanceConfig",
    "BotSortConfig",
    "ByteTrackConfig",
    "CalibrationConfig",
    "CameraConfig",
    "CascadeConfig",
    "Config",
    "DeepSortConfig",
    "DetectorConfig",
    "DiskConfig",
    "EvaluationConfig",
    "GalleryConfig",
    "IdentitiesConfig",
    "InterpolationConfig",
    "KalmanConfig",
    "LevelConfig",
    "LinkingConfig",
    "LoggingConfig",
    "MetricsConfig",
    "MlflowConfig",
    "MotionGateConfig",
    "OcSortConfig",
    "ParameterSpace",
    "PipelineConfig",
    "ReIDConfig",
    "RecoveryConfig",
    "RegroupingConfig",
    "ReplicaConfig",
    "RerankConfig",
    "ServingConfig",
    "SortConfig",
    "StrongSortConfig",
    "TimedKalmanConfig",
    "TracingConfig",
    "TrackerConfig",
    "TrustConfig",
    "TuningConfig",
    "VideoConfig",
    "change_config",
    "load_config",
    "parse_overrides",
]

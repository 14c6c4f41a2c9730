"""The configuration tree: every field has a description and bounds, unknown keys are refused."""

from motserve.config.annotation import AnnotationConfig
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
from motserve.config.loading.choice import choose_config
from motserve.config.logs import LoggingConfig
from motserve.config.postprocessing import InterpolationConfig, LinkingConfig, RegroupingConfig
from motserve.config.reid import GalleryConfig, MotionGateConfig, ReIDConfig, TrustConfig
from motserve.config.serving import IdentitiesConfig, MetricsConfig, ReplicaConfig, ServingConfig, TracingConfig
from motserve.config.tracker import (
    DEFAULT_TRACKER,
    PUBLISHED,
    TRACKERS,
    BotSortConfig,
    ByteTrackConfig,
    CascadeConfig,
    DeepSortConfig,
    OcSortConfig,
    SortConfig,
    StrongSortConfig,
    TrackerConfig,
)
from motserve.config.tracker_parts import (
    AppearanceConfig,
    BufferedIouConfig,
    CameraConfig,
    ConfidenceScalingConfig,
    KalmanConfig,
    TimedKalmanConfig,
)
from motserve.config.tree import Config, change_config, load_config, parse_overrides
from motserve.config.video import PipelineConfig, VideoConfig

__all__ = [
    "DEFAULT_TRACKER",
    "PUBLISHED",
    "TRACKERS",
    "AnnotationConfig",
    "AppearanceConfig",
    "BotSortConfig",
    "BufferedIouConfig",
    "ByteTrackConfig",
    "CalibrationConfig",
    "CameraConfig",
    "CascadeConfig",
    "ConfidenceScalingConfig",
    "Config",
    "DeepSortConfig",
    "DetectorConfig",
    "DiskConfig",
    "EvaluationConfig",
    "GalleryConfig",
    "IdentitiesConfig",
    "InterpolationConfig",
    "KalmanConfig",
    "LinkingConfig",
    "LoggingConfig",
    "MetricsConfig",
    "MlflowConfig",
    "MotionGateConfig",
    "OcSortConfig",
    "ParameterSpace",
    "PipelineConfig",
    "ReIDConfig",
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
    "choose_config",
    "load_config",
    "parse_overrides",
]

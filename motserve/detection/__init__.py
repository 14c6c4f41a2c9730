"""Object detectors, chosen by the weights they are given."""

from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection.yolo import YoloDetector
from motserve.weights import Weights

__all__ = ["YoloDetector", "build_detector"]


def build_detector(config: DetectorConfig, weights: Weights) -> DetectorBase:
    """Return the detector for a configuration, its network loaded and on its device."""
    return YoloDetector(config, weights)

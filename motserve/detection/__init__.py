"""Object detectors, selected by their weights."""

from __future__ import annotations

from pathlib import Path

from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection.families import identify_family
from motserve.detection.region import RegionDetector
from motserve.errors import InvalidConfig
from motserve.models.weights import Weights

__all__ = ["build_detector"]


def build_detector(config: DetectorConfig, weights: Weights, folder: Path | None = None) -> DetectorBase:
    """Return the detector for a configuration, its network loaded and on its device.

    The implementations are imported here and not with the package, so that a session, which only requests detections,
    does not load torch.

    Args:
        config: The configuration.
        weights: The weights.
        folder: `cache_dir`, where networks that were converted for `detector.backend` are stored; None to store none.

    Raises:
        InvalidConfig: The configuration does not fit the weights or this machine: architecture, classes, device,
            backend, a package that is not installed.
        WeightsUnavailable: The weights cannot be read or are not a detector.
    """
    detector = _build(config, weights, folder)
    return detector if config.region is None else RegionDetector(detector, config.region)


def _build(config: DetectorConfig, weights: Weights, folder: Path | None) -> DetectorBase:
    identified = identify_family(config, weights)
    if config.backend == "openvino" and identified.family != "ultralytics":
        raise InvalidConfig(
            f"detector.backend openvino: {weights.name} is a detector of {identified.family}, which runs on PyTorch "
            "only; set detector.backend=auto or torch"
        )
    if identified.family == "torchvision":
        from motserve.detection.torchvision_detector import TorchvisionDetector

        return TorchvisionDetector(config, weights, identified.architecture)
    if identified.family == "efficientdet":
        from motserve.detection.efficientdet_detector import EfficientDetDetector

        return EfficientDetDetector(config, weights, identified.architecture)
    if identified.family == "transformers":
        from motserve.detection.transformers_detector import TransformersDetector

        return TransformersDetector(config, weights)
    from motserve.detection.openvino_yolo import load_converted

    if (converted := load_converted(config, weights, folder)) is not None:
        return converted
    from motserve.detection.yolo import build_yolo

    return build_yolo(config, weights, folder)

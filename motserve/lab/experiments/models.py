"""Detector and embedder of an experiment; loaded only if a result is not in the cache."""

from __future__ import annotations

import platform
from dataclasses import asdict
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import motserve
from motserve.base import DetectorBase
from motserve.config import Config
from motserve.detection import build_detector
from motserve.detection.families import identify_family
from motserve.models.provenance import describe_files
from motserve.models.weights import Weights, resolve_weights
from motserve.reid import build_embedder
from motserve.reid.embedder import CropEmbedder

_DETECTION_LIBRARIES: Final = ("torch", "torchvision", "ultralytics", "onnxruntime", "transformers", "effdet", "timm")
_EMBEDDING_LIBRARIES: Final = ("torch", "torchvision", "onnxruntime")
_PICTURE_LIBRARIES: Final = ("av", "opencv-python", "opencv-python-headless")
_WEIGHTS_KEYS: Final = {"weights"}  # the checksum stands for them
_EMBEDDING_KEYS: Final = {"onnx_input", "feature", "crop_height", "crop_width", "device", "half"}
# the version number stays the same while the code changes, so the code itself is part of a key
_DETECTION_CODE: Final = (
    "detection",
    "video",
    "models/libraries.py",
    "models/device.py",
    "types.py",
    "lab/experiments/detections.py",
)
_EMBEDDING_CODE: Final = ("reid", "video", "models/device.py", "types.py", "lab/evaluation/reid_data.py")
_NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")


class Models:
    """Detector and embedder of a configuration.

    Args:
        config: The configuration.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def detector_weights(self) -> Weights:
        """The detector's weights.

        Raises:
            WeightsUnavailable: They are not available.
        """
        return resolve_weights("detector", self.config)

    @cached_property
    def reid_weights(self) -> Weights:
        """The embedder's weights.

        Raises:
            WeightsUnavailable: They are not available.
        """
        return resolve_weights("reid", self.config)

    @cached_property
    def detector(self) -> DetectorBase:
        """The detector, loaded at first use."""
        return build_detector(self.config.detector, self.detector_weights)

    @cached_property
    def embedder(self) -> CropEmbedder:
        """The embedder, loaded at first use."""
        return build_embedder(self.config.reid, self.reid_weights)

    def detection_key(self) -> dict[str, Any]:
        """Return all that detections depend on, besides the pictures."""
        settings = self.config.detector.model_dump(mode="json", exclude=_WEIGHTS_KEYS)
        return {
            "weights": self.detector_weights.sha256,
            **settings,
            "family": asdict(identify_family(self.config.detector, self.detector_weights)),  # it may depend on the name
            **_environment(_DETECTION_CODE, _DETECTION_LIBRARIES),
        }

    def embedding_key(self) -> dict[str, Any]:
        """Return all that embeddings depend on, besides the crops."""
        settings = self.config.reid.model_dump(mode="json", include=_EMBEDDING_KEYS)
        return {
            "weights": self.reid_weights.sha256,
            **settings,
            **_environment(_EMBEDDING_CODE, _EMBEDDING_LIBRARIES),
        }


def _environment(code: tuple[str, ...], libraries: tuple[str, ...]) -> dict[str, Any]:
    versions = {}
    for name in (*libraries, *_PICTURE_LIBRARIES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    # without the driver, device `auto` is the CPU; importing torch to check would take seconds
    return {
        "code": _code_checksum(code),
        "libraries": versions,
        "machine": platform.machine(),
        "nvidia": _NVIDIA_DRIVER.exists(),
    }


@cache
def _code_checksum(paths: tuple[str, ...]) -> str:
    """Return the checksum of some of motserve's own modules and packages."""
    package = Path(motserve.__file__).parent
    modules = [package / path for path in paths if path.endswith(".py")]
    packages = [package / path for path in paths if not path.endswith(".py")]
    files = [*modules, *(file for folder in packages for file in folder.rglob("*.py"))]
    return str(describe_files(files, package)["sha256"])

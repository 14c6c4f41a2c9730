"""Detector and embedder of an experiment, found at once but loaded only when something is not in the cache."""

from __future__ import annotations

import platform
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from motserve import __version__
from motserve.base import DetectorBase, ReIDBase
from motserve.config import Config
from motserve.detection import build_detector
from motserve.reid import build_embedder
from motserve.weights import Weights, resolve_weights

_DETECTION_LIBRARIES: Final = ("torch", "torchvision", "ultralytics", "onnxruntime", "transformers", "effdet", "timm")
_EMBEDDING_LIBRARIES: Final = ("torch", "torchvision", "onnxruntime")
_PICTURE_LIBRARIES: Final = ("av", "opencv-python", "opencv-python-headless")
_WEIGHTS_KEYS: Final = {"weights"}  # the checksum stands for them
_EMBEDDING_KEYS: Final = {"onnx_input", "crop_height", "crop_width", "device", "half"}
_NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")


class Models:
    """The two networks that a configuration names.

    Args:
        config: The configuration.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def detector_weights(self) -> Weights:
        """The detector's weights.

        Raises:
            WeightsUnavailable: They cannot be had.
        """
        return resolve_weights("detector", self.config)

    @cached_property
    def reid_weights(self) -> Weights:
        """The embedder's weights.

        Raises:
            WeightsUnavailable: They cannot be had.
        """
        return resolve_weights("reid", self.config)

    @cached_property
    def detector(self) -> DetectorBase:
        """The detector, loaded at first use."""
        return build_detector(self.config.detector, self.detector_weights)

    @cached_property
    def embedder(self) -> ReIDBase:
        """The embedder, loaded at first use."""
        return build_embedder(self.config.reid, self.reid_weights)

    def detection_key(self) -> dict[str, Any]:
        """Return everything besides the pictures that detections depend on."""
        settings = self.config.detector.model_dump(mode="json", exclude=_WEIGHTS_KEYS)
        return {"weights": self.detector_weights.sha256, **settings, **_versions(_DETECTION_LIBRARIES)}

    def embedding_key(self) -> dict[str, Any]:
        """Return everything besides the crops that embeddings depend on."""
        settings = self.config.reid.model_dump(mode="json", include=_EMBEDDING_KEYS)
        return {"weights": self.reid_weights.sha256, **settings, **_versions(_EMBEDDING_LIBRARIES)}


def _versions(libraries: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for name in (*libraries, *_PICTURE_LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    # without the driver a device of `auto` is the CPU; asking torch would take seconds
    return {
        "motserve": __version__,
        "libraries": found,
        "machine": platform.machine(),
        "nvidia": _NVIDIA_DRIVER.exists(),
    }

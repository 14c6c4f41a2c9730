"""Detector and embedder of an experiment; loaded only if a result is not in the cache."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from motserve.base import DetectorBase
from motserve.config import Config
from motserve.detection import build_detector
from motserve.models.weights import Weights, resolve_weights
from motserve.pipeline.detections.key import detection_key, environment_key
from motserve.reid import build_embedder
from motserve.reid.embedder import CropEmbedder
from motserve.reid.openvino_embedder import expected_backend

_EMBEDDING_LIBRARIES: Final = ("torch", "torchvision", "openvino", "onnxruntime")
_EMBEDDING_KEYS: Final = {"onnx_input", "feature", "crop_height", "crop_width", "device", "half", "backend"}
_DETECTION_CODE: Final = ("lab/experiments/detections.py",)
_EMBEDDING_CODE: Final = (
    "reid",
    "video",
    "models/device.py",
    "models/backend.py",
    "models/openvino_conversion.py",
    "models/openvino_network.py",
    "types.py",
    "lab/evaluation/reid_data.py",
)


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
        return build_detector(self.config.detector, self.detector_weights, self.config.cache_dir)

    @cached_property
    def embedder(self) -> CropEmbedder:
        """The embedder, loaded at first use."""
        return build_embedder(self.config.reid, self.reid_weights, self.config.cache_dir)

    def detection_key(self) -> dict[str, Any]:
        """Return everything that detections depend on, besides the pictures."""
        return detection_key(self.config.detector, self.detector_weights, self.config.cache_dir, _DETECTION_CODE)

    def embedding_key(self) -> dict[str, Any]:
        """Return everything that embeddings depend on, besides the crops."""
        settings = self.config.reid.model_dump(mode="json", include=_EMBEDDING_KEYS)
        return {
            "weights": self.reid_weights.sha256,
            **settings,
            "backend": expected_backend(self.config.reid, self.reid_weights, self.config.cache_dir),
            **environment_key(_EMBEDDING_CODE, _EMBEDDING_LIBRARIES),
        }

"""Object detection with any Ultralytics model: YOLO or RT-DETR as `.pt`, the bundled weights, or an exported format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection.common import choose_classes, group_by_shape, postprocess
from motserve.detection.yolo_network import build_network
from motserve.errors import WeightsUnavailable
from motserve.models.backend import TORCH, choose_network
from motserve.models.device import choose_device
from motserve.models.libraries import import_ultralytics, keeping_threads
from motserve.models.weights import Weights
from motserve.types import Detections, Image

_ANY: Final = "yolov8n.yaml"
"""A network of the right kind, which another one replaces."""


class YoloDetector(DetectorBase):
    """A YOLO or RT-DETR network behind Ultralytics' predictor. Not safe for concurrent calls: one thread at a time.

    YOLO keeps the aspect ratio of a picture, RT-DETR stretches it to a square of `image_size` and has no non-maximum
    suppression (Zhao et al., CVPR 2024).

    Args:
        config: Thresholds, classes, input size, device and precision.
        weights: What to load: `.pt` and exported formats go through Ultralytics, `.safetensors` holds motserve's own
            state dict with the architecture's name, and the network where it is not Ultralytics' own, in its metadata.

    Attributes:
        device: Name of the device for PyTorch.
        network: The network; None for exported formats.

    Raises:
        InvalidConfig: The device does not exist, or a class is not one of the model's.
        WeightsUnavailable: The weights cannot be read or are not a detector.
    """

    def __init__(self, config: DetectorConfig, weights: Weights) -> None:
        self.device = device = choose_device(config.device)
        with keeping_threads():
            self._model = load_yolo(weights)
        known: dict[int, str] = dict(self._model.names)
        self._names = choose_classes(known, config.classes, weights)
        # an exported model is a path here; for others, count before Ultralytics fuses layers at the first picture
        self.network = self._model.model if hasattr(self._model.model, "parameters") else None
        self._parameters = None if self.network is None else sum(p.numel() for p in self.network.parameters())
        self._limit = config.max_detections
        self._options: dict[str, Any] = {
            "conf": config.confidence,
            "iou": config.nms_iou,
            "imgsz": config.image_size,
            "max_det": self._limit,
            "classes": None if len(self._names) == len(known) else list(self._names),
            "device": device,
            "quantize": 16 if config.half and device.startswith("cuda") else None,
            "verbose": False,
        }

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each selected class, by its index."""
        return self._names

    @property
    def parameters(self) -> int | None:
        """Number of trained values in the network; None for exported formats."""
        return self._parameters

    @property
    def backend(self) -> str:
        """Library that runs the network; empty for exported formats."""
        return "" if self.network is None else TORCH

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects in a batch; see `DetectorBase.detect`. Pictures of one size are one forward pass."""
        detections = [Detections.empty()] * len(images)
        for rows in group_by_shape(images):
            with keeping_threads():
                results = self._model.predict([images[i] for i in rows], **self._options)
            for i, result in zip(rows, results, strict=True):
                boxes = result.boxes.data.cpu().numpy()
                detections[i] = postprocess(
                    boxes[:, :4], boxes[:, 4], boxes[:, 5], images[i].shape, self._names, self._limit
                )
        return detections


def build_yolo(config: DetectorConfig, weights: Weights, folder: Path | None = None) -> DetectorBase:
    """Return the detector for weights that Ultralytics loads, on PyTorch or OpenVINO.

    Args:
        config: The configuration.
        weights: The weights.
        folder: `cache_dir`, for converted networks; see `choose_network`.

    Raises:
        InvalidConfig: The device does not exist, a class is not one of the model's, or the backend cannot run it.
        WeightsUnavailable: The weights cannot be read or are not a detector.
    """
    detector = YoloDetector(config, weights)
    if detector.network is None:
        return detector
    from motserve.detection.openvino_yolo import OpenVinoYolo
    from motserve.detection.yolo_conversion import convertible_yolo

    convertible = convertible_yolo(config, weights, detector.network)
    converted = choose_network(config.backend, detector.device, convertible, folder)
    return detector if converted is None else OpenVinoYolo(config, weights, converted)


def load_yolo(weights: Weights) -> Any:
    """Return Ultralytics' model with the weights in a file.

    Raises:
        WeightsUnavailable: The weights cannot be read or are not a detector.
    """
    ultralytics = import_ultralytics()
    try:
        if weights.path.suffix == ".safetensors":
            return _load_state_dict(ultralytics, weights)
        model = ultralytics.YOLO(weights.path, task="detect", verbose=False)
        model.names  # noqa: B018  # exported formats are opened at first use; a broken file must fail here
    except Exception as error:
        raise WeightsUnavailable(
            f"{weights.path} is not a detector that Ultralytics can load ({type(error).__name__}: {error})"
        ) from error
    if model.task != "detect":
        raise WeightsUnavailable(f"{weights.path} is a model for {model.task}, a detector is needed")
    return model


def _load_state_dict(ultralytics: Any, weights: Weights) -> Any:
    from safetensors import safe_open

    with safe_open(weights.path, framework="pt") as file:
        metadata = file.metadata()
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a mapping
    names = {int(i): name for i, name in json.loads(metadata["names"]).items()}
    network = json.loads(metadata["network"]) if "network" in metadata else f"{metadata['architecture']}.yaml"
    model = ultralytics.YOLO(_ANY, task="detect", verbose=False)
    model.model = build_network(network, len(names))
    head = model.model.model[-1]
    last = len(head.cv3[0]) - 1
    width = state[f"model.{len(model.model.model) - 1}.cv3.0.{last}.weight"].shape[1]
    if width != head.cv3[0][-1].in_channels:
        # a network trained from more classes keeps its wider branch; Ultralytics widens the network when it loads one
        model.model.load(build_network(network, width), verbose=False)
    model.model.load_state_dict(state)
    model.model.names = names
    return model

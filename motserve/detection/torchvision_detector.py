"""Object detection with torchvision's models: Faster R-CNN, RetinaNet, FCOS and SSD."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model, get_model_weights

from motserve.config import DetectorConfig
from motserve.detection.network_weights import coco_names, load_checkpoint, read_checkpoint
from motserve.detection.torch_detector import RawDetections, TorchDetector
from motserve.errors import WeightsUnavailable
from motserve.models.weights import Weights

_WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""Architectures whose published weights were trained with a batch norm without epsilon."""


class TorchvisionDetector(TorchDetector):
    """A detector of torchvision, such as Faster R-CNN (Ren et al., NeurIPS 2015).

    The longer side of a picture becomes `image_size` and its aspect ratio is kept; the two SSD have a fixed input size
    (300 and 320). `nms_iou` is the threshold of the last non-maximum suppression, which is done for each class
    separately. The region proposals of Faster R-CNN, and the number of candidates before that step, are the library's
    defaults.

    Args:
        config: Thresholds, classes, input size, device and precision.
        weights: A state dict, `.pth` or `.safetensors`. `names` in the metadata of a `.safetensors` name its labels,
            `{"1": "person"}` for instance; without them it has COCO's 91 labels.
        architecture: Name of the model in torchvision's registry.

    Raises:
        InvalidConfig: The device does not exist or a class is not one of the model's.
        WeightsUnavailable: The file cannot be read or belongs to another model.
    """

    def __init__(self, config: DetectorConfig, weights: Weights, architecture: str) -> None:
        try:
            checkpoint = read_checkpoint(weights)
            names = checkpoint.names or coco_names()
            network = get_model(
                architecture,
                weights=None,
                weights_backbone=None,
                num_classes=max(names) + 1,
                **_settings(config, architecture),
            )
            load_checkpoint(network, checkpoint)
        except Exception as error:
            raise WeightsUnavailable(
                f"{weights.path} holds no {architecture} of torchvision ({type(error).__name__}: {error})"
            ) from error
        if architecture in _WITHOUT_EPSILON and _is_published(weights, architecture):
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eps = 0.0
        super().__init__(config, weights, network, names)

    def _forward(self, pixels: torch.Tensor) -> list[RawDetections]:
        outputs = self._network(list(pixels.float() / 255))
        return [(output["boxes"], output["scores"], output["labels"]) for output in outputs]


def _settings(config: DetectorConfig, architecture: str) -> dict[str, Any]:
    """Return the arguments of the model's constructor; it must not limit detections before classes are selected."""
    prefix = "box_" if architecture.startswith("fasterrcnn") else ""
    settings: dict[str, Any] = {
        f"{prefix}score_thresh": config.confidence,
        f"{prefix}nms_thresh": config.nms_iou,
        f"{prefix}detections_per_img": sys.maxsize,
    }
    if not architecture.startswith("ssd"):
        settings |= {"min_size": config.image_size, "max_size": config.image_size}
    return settings


def _is_published(weights: Weights, architecture: str) -> bool:
    """Compare the checksum with its first digits, which torchvision writes into the file's name."""
    published = Path(get_model_weights(architecture).DEFAULT.url).stem
    return weights.sha256.startswith(published.rpartition("-")[2])

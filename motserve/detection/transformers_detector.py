"""Object detection with DETR and related models, by transformers."""

from __future__ import annotations

from typing import Any

import torch

from motserve.config import DetectorConfig
from motserve.detection.torch_detector import RawDetections, TorchDetector
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.extras import import_extra
from motserve.models.weights import Weights

_NO_CLASS = "N/A"
"""Name of unused labels in models for COCO."""


class TransformersDetector(TorchDetector):
    """A detection transformer: DETR (Carion et al., ECCV 2020), Deformable DETR, RT-DETR, D-FINE, YOLOS and others.

    The preprocessing is the model's own except for the size: where it keeps the aspect ratio (DETR), the longer side
    becomes `image_size`; where it stretches to a square (RT-DETR, D-FINE), the square has that side. There is no
    non-maximum suppression, so `nms_iou` has no effect. DETR gives each of its queries the most likely of all classes
    before classes are selected. In half precision, box coordinates are rounded to up to 1/2048 of the picture.

    Args:
        config: Confidence, classes, input size, device and precision.
        weights: A folder with `config.json`, `preprocessor_config.json` and `.safetensors`, as saved by transformers
            or downloaded from the Hugging Face Hub. No code in it is run.

    Raises:
        InvalidConfig: The device does not exist, a class is not one of the model's, the model does not work at this
            size, or transformers is not installed.
        WeightsUnavailable: The folder holds no detector, or an incomplete one.
    """

    def __init__(self, config: DetectorConfig, weights: Weights) -> None:
        transformers = import_extra("transformers")
        try:
            self._processor, network = _load(transformers, weights)
        except Exception as error:
            raise WeightsUnavailable(
                f"{weights.path} holds no detector of transformers ({type(error).__name__}: {error})"
            ) from error
        names = {label: name for label, name in network.config.id2label.items() if name != _NO_CLASS}
        super().__init__(config, weights, network, names)
        self._confidence = config.confidence
        self._size = dict.fromkeys(dict(self._processor.size), config.image_size)
        self._check(weights, config.image_size)

    def _forward(self, pixels: torch.Tensor) -> list[RawDetections]:
        inputs = self._processor(
            images=pixels, size=self._size, input_data_format="channels_first", return_tensors="pt"
        )
        outputs = self._network(**inputs)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        detections = self._processor.post_process_object_detection(
            outputs, threshold=self._confidence, target_sizes=[tuple(pixels.shape[-2:])] * len(pixels)
        )
        return [(picture["boxes"], picture["scores"], picture["labels"]) for picture in detections]

    @torch.inference_mode()
    def _check(self, weights: Weights, size: int) -> None:
        """Run the network on one black picture: only the model itself knows whether it supports the size."""
        try:
            self._forward(torch.zeros((1, 3, size, size), dtype=torch.uint8, device=self._device))
        except Exception as error:
            raise InvalidConfig(
                f"detector.image_size {size}: the model in {weights.path} does not work at this size "
                f"({type(error).__name__}: {error})"
            ) from error


def _load(transformers: Any, weights: Weights) -> tuple[Any, Any]:
    transformers.utils.logging.disable_progress_bar()
    options = {"local_files_only": True, "trust_remote_code": False}
    processor = transformers.AutoImageProcessor.from_pretrained(weights.path, **options, backend="torchvision")
    network, report = transformers.AutoModelForObjectDetection.from_pretrained(
        weights.path, **options, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    # transformers fills missing arrays with random values
    absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if absent:
        raise ValueError(f"{len(absent)} arrays are missing or of other shapes, such as {absent[0]}")
    return processor, network

"""Object detection with EfficientDet, by effdet."""

from __future__ import annotations

import torch
from torchvision.ops import batched_nms, clip_boxes_to_image
from torchvision.transforms.v2.functional import resize

from motserve.config import DetectorConfig
from motserve.detection.network_weights import coco_names, load_checkpoint, read_checkpoint
from motserve.detection.torch_detector import RawDetections, TorchDetector
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.extras import import_extra
from motserve.models.weights import Weights

_STRIDE = 128
"""Pixels of the input for one cell of the coarsest feature map."""


class EfficientDetDetector(TorchDetector):
    """EfficientDet (Tan et al., CVPR 2020), with effdet's network, anchors and input.

    A picture keeps its aspect ratio and is padded at the right and below to a square of `image_size`, which is a
    multiple of 128 or the size that the architecture was published for. Non-maximum suppression is done here and not by
    effdet, which fixes its IoU at 0.5 and uses compiled functions whose second call takes seconds.

    Args:
        config: Thresholds, classes, input size, device and precision.
        weights: A state dict, `.pth` or `.safetensors`. `names` in the metadata of a `.safetensors` name its labels,
            `{"1": "person"}` for instance; without them it has COCO's 90 labels.
        architecture: effdet's name of the model.

    Raises:
        InvalidConfig: The device does not exist, a class is not one of the model's, the size is not supported, or
            effdet is not installed.
        WeightsUnavailable: The file cannot be read or belongs to another model.
    """

    def __init__(self, config: DetectorConfig, weights: Weights, architecture: str) -> None:
        effdet = import_extra("effdet")
        data = import_extra("effdet.data")
        transforms = import_extra("effdet.data.transforms")
        settings = effdet.get_efficientdet_config(architecture)
        published = int(settings.image_size[0])
        self._size = config.image_size
        if self._size % _STRIDE and self._size != published:
            raise InvalidConfig(
                f"detector.image_size {self._size}: {architecture} supports multiples of {_STRIDE}, or "
                f"{published}, the size it was published for"
            )
        settings.image_size = (self._size, self._size)
        try:
            checkpoint = read_checkpoint(weights)
            names = checkpoint.names or coco_names()
            self._classes = settings.num_classes = max(names)
            network = effdet.EfficientDet(settings, pretrained_backbone=False)
            load_checkpoint(network, checkpoint)
        except Exception as error:
            raise WeightsUnavailable(
                f"{weights.path} holds no {architecture} of effdet ({type(error).__name__}: {error})"
            ) from error
        super().__init__(config, weights, network, names)
        self._confidence, self._nms_iou = config.confidence, config.nms_iou
        self._candidates = int(settings.max_detection_points)
        self._decode = effdet.anchors.decode_box_outputs
        self._anchors = effdet.anchors.Anchors.from_config(settings).boxes.to(self._device)
        self._labels = torch.tensor(list(self._names), device=self._device)
        inputs = data.resolve_input_config({}, settings)
        fill = transforms.resolve_fill_color(inputs["fill_color"], inputs["mean"])
        self._fill, self._mean, self._std = (
            torch.tensor([*values], dtype=torch.float32, device=self._device).view(3, 1, 1)
            for values in (fill, inputs["mean"], inputs["std"])
        )

    def _forward(self, pixels: torch.Tensor) -> list[RawDetections]:
        height, width = pixels.shape[-2:]
        scale = self._size / max(height, width)
        class_maps, box_maps = self._network(self._prepare(pixels, scale))
        logits = _rows(class_maps, self._classes)
        offsets = _rows(box_maps, 4)
        # label 1 is the network's first class; classes that are not selected need no suppression
        scores = logits[..., self._labels - 1].sigmoid()
        return [
            self._select(*picture, (height * scale, width * scale), scale)
            for picture in zip(scores, offsets, strict=True)
        ]

    def _prepare(self, pixels: torch.Tensor, scale: float) -> torch.Tensor:
        """Return the normalised square `(n, 3, size, size)` with the picture in its top left corner."""
        height, width = (max(int(side * scale), 1) for side in pixels.shape[-2:])
        square = self._fill.repeat(len(pixels), 1, self._size, self._size)
        square[..., :height, :width] = resize(pixels, [height, width], antialias=True)
        return (square / 255 - self._mean) / self._std

    def _select(
        self, scores: torch.Tensor, offsets: torch.Tensor, size: tuple[float, float], scale: float
    ) -> RawDetections:
        """Return the detections of one picture above the confidence threshold, after non-maximum suppression.

        Args:
            scores: `(anchors, classes)`, of the selected classes only.
            offsets: `(anchors, 4)`, the boxes relative to their anchors.
            size: Height and width of the picture inside the square.
            scale: Size of the picture in the square divided by its original size.
        """
        best, index = scores.flatten().topk(min(self._candidates, scores.numel()))
        index, best = index[best > self._confidence], best[best > self._confidence]
        anchors, columns = index // scores.shape[1], index % scores.shape[1]
        boxes = self._decode(offsets[anchors], self._anchors[anchors], output_xyxy=True)
        boxes = clip_boxes_to_image(boxes, size)
        keep = batched_nms(boxes, best, columns, self._nms_iou)
        return boxes[keep] / scale, best[keep], self._labels[columns[keep]]


def _rows(maps: list[torch.Tensor], values: int) -> torch.Tensor:
    """Join the maps of all levels `(n, anchors * values, height, width)` to `(n, all anchors, values)` float32."""
    parts = [level.permute(0, 2, 3, 1).reshape(len(level), -1, values) for level in maps]
    return torch.cat(parts, dim=1).float()

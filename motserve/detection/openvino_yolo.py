"""YOLO detectors on OpenVINO, without PyTorch and Ultralytics: a process starts sooner and needs less memory.

Before and after the network is done what Ultralytics does, so the detections are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection.backend import CONVERTED_SETTINGS, expected_backend
from motserve.detection.common import choose_classes, group_by_shape, postprocess
from motserve.models.backend import OPENVINO, stored_network
from motserve.models.openvino_network import OpenVinoNetwork
from motserve.models.weights import Weights
from motserve.types import Detections, FloatArray, Image, IntArray

_PADDING: Final = (114, 114, 114)
_COORDINATES: Final = 4
_MAX_CANDIDATES: Final = 30_000
"""Most boxes among which overlapping ones are suppressed, the most confident ones."""

_CLASS_DISTANCE: Final = 7680.0
"""Distance in pixels that boxes of two classes are moved apart, so that only boxes of one class overlap."""

_ROUND_DOWN: Final = 0.1
"""Taken from half pixels before they are rounded: an odd row of padding is at the bottom."""


class OpenVinoYolo(DetectorBase):
    """A converted YOLO network. Not safe for concurrent calls: one thread at a time.

    Args:
        config: Thresholds, classes and input size.
        weights: The weights from which it was converted, for error messages.
        network: The network, with the facts of `facts_of`.

    Raises:
        InvalidConfig: A class is not one of the network's.
    """

    def __init__(self, config: DetectorConfig, weights: Weights, network: OpenVinoNetwork) -> None:
        self._network = network
        known = {int(index): str(name) for index, name in network.facts["names"].items()}
        self._names = choose_classes(known, config.classes, weights)
        self._parameters, self._stride = int(network.facts["parameters"]), int(network.facts["stride"])
        self._side = -(-config.image_size // self._stride) * self._stride
        self._confidence, self._iou = config.confidence, config.nms_iou
        self._limit = config.max_detections

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each selected class, by its index."""
        return self._names

    @property
    def parameters(self) -> int:
        """Number of trained values in the network."""
        return self._parameters

    @property
    def backend(self) -> str:
        """Library that runs the network."""
        return OPENVINO

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects in a batch; see `DetectorBase.detect`. Pictures of one size are one forward pass."""
        detections = [Detections.empty()] * len(images)
        for rows in group_by_shape(images):
            frame = _Frame(images[rows[0]].shape, self._side, self._stride)
            outputs = self._network(np.stack([frame.padded(images[i]) for i in rows]))
            for i, output in zip(rows, outputs, strict=True):
                boxes, scores, classes = self._suppressed(output)
                detections[i] = postprocess(
                    frame.unpadded(boxes), scores, classes, images[i].shape, self._names, self._limit
                )
        return detections

    def _suppressed(self, output: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return boxes in pixels of the input, scores and classes, without those that a better one overlaps.

        Args:
            output: `(4 + classes, anchors)`: centre, width and height, then a score for each class.
        """
        best = output[_COORDINATES:].max(axis=0)
        anchors = np.flatnonzero(best > np.float32(self._confidence))
        classes = output[_COORDINATES:, anchors].argmax(axis=0)
        is_selected = np.isin(classes, list(self._names))
        anchors, classes = anchors[is_selected], classes[is_selected]
        order = np.argsort(-best[anchors], kind="stable")[:_MAX_CANDIDATES]
        anchors, classes = anchors[order], classes[order]
        scores = best[anchors]
        centre, size = output[:2, anchors].T, output[2:_COORDINATES, anchors].T
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        is_box = np.isfinite(boxes).all(axis=1)
        boxes, size, scores, classes = boxes[is_box], size[is_box], scores[is_box], classes[is_box]
        apart = np.concatenate([boxes[:, :2] + classes[:, None] * _CLASS_DISTANCE, size], axis=1)
        rectangles: Any = apart.astype(np.float64)
        kept = np.asarray(cv2.dnn.NMSBoxes(rectangles, scores, 0.0, self._iou), np.int64).reshape(-1)[: self._limit]
        return boxes[kept], scores[kept], classes[kept]


class _Frame:
    """How pictures of one size get into the network: scaled to its longer side, padded to a multiple of the stride.

    Args:
        shape: Height, width and channels of the pictures.
        side: Longer side of the input in pixels.
        stride: Stride of the network in pixels.
    """

    def __init__(self, shape: tuple[int, ...], side: int, stride: int) -> None:
        height, width = shape[:2]
        scale = min(side / height, side / width)
        self._size = max(round(width * scale), 1), max(round(height * scale), 1)
        self._is_scaled = self._size != (width, height)
        missing_x, missing_y = ((side - length) % stride / 2 for length in self._size)
        self._left, self._right = round(missing_x - _ROUND_DOWN), round(missing_x + _ROUND_DOWN)
        self._top, self._bottom = round(missing_y - _ROUND_DOWN), round(missing_y + _ROUND_DOWN)
        factors = self._size[0] / width, self._size[1] / height
        self._shift = np.array([self._left, self._top] * 2, np.float32)
        self._factor = np.array(factors * 2, np.float32)

    def padded(self, image: Image) -> Image:
        """Return the input for a picture."""
        scaled = cv2.resize(image, self._size, interpolation=cv2.INTER_LINEAR) if self._is_scaled else image
        borders = (self._top, self._bottom, self._left, self._right)
        return np.asarray(cv2.copyMakeBorder(scaled, *borders, cv2.BORDER_CONSTANT, value=_PADDING), np.uint8)

    def unpadded(self, boxes: FloatArray) -> FloatArray:
        """Return `(n, 4)` boxes of the input in pixels of the picture."""
        return np.asarray((boxes - self._shift) / self._factor, np.float32)


def facts_of(names: Mapping[int, str], parameters: int, stride: int) -> dict[str, Any]:
    """Return what is stored with a converted network.

    Args:
        names: Name of each class index.
        parameters: Number of trained values.
        stride: Largest stride in pixels; the sides of the input are multiples of it.
    """
    return {"names": {str(index): name for index, name in names.items()}, "parameters": parameters, "stride": stride}


def load_converted(config: DetectorConfig, weights: Weights, folder: Path | None) -> OpenVinoYolo | None:
    """Return the detector for weights that were converted before; None if they were not, or PyTorch runs them.

    Args:
        config: The configuration.
        weights: The weights.
        folder: `cache_dir`, with the converted networks; None if there is none.

    Raises:
        InvalidConfig: A class is not one of the network's.
    """
    if expected_backend(config, weights, folder) != OPENVINO:
        return None
    network = stored_network("detector", weights, CONVERTED_SETTINGS, folder)
    return None if network is None else OpenVinoYolo(config, weights, network)

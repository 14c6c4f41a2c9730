"""Prepares YOLO networks of Ultralytics for conversion to OpenVINO."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import numpy as np
import torch

from motserve.config import DetectorConfig
from motserve.detection.backend import CONVERTED_SETTINGS
from motserve.detection.openvino_yolo import facts_of
from motserve.errors import InvalidData
from motserve.models.backend import Convertible
from motserve.models.weights import Weights
from motserve.types import FloatArray

_MAX_BOX_DIFFERENCE: Final = 0.5  # pixels of the network's input
_MAX_SCORE_DIFFERENCE: Final = 1e-3
_STRIDE: Final = 32
_COORDINATES: Final = 4
_HEAD: Final = "Detect"


class _FromPixels(torch.nn.Module):
    """A YOLO network with the conversion of pictures before it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return boxes and scores, `(n, 4 + classes, anchors)`, for `(n, height, width, 3)` uint8 BGR."""
        return torch.as_tensor(self.network(pictures.permute(0, 3, 1, 2).float().flip(1) / 255))


def convertible_yolo(config: DetectorConfig, weights: Weights, network: Any) -> Convertible:
    """Return a YOLO network of Ultralytics for conversion; it is copied, not modified.

    Args:
        config: The size of pictures.
        weights: Its weights, for the key of the converted network.
        network: Ultralytics' network, its weights loaded.
    """
    stride = max(int(network.stride.max()), _STRIDE)
    side = -(-config.image_size // stride) * stride
    low = -(-side * 9 // 16 // stride) * stride  # a picture of 16:9, the padding of which is rounded up
    return Convertible(
        role="detector",
        weights=weights,
        settings=CONVERTED_SETTINGS,
        build=lambda: _prepare(network),
        any_size=True,
        samples=((1, low, side), (2, 2 * stride, 3 * stride)),
        facts=facts_of(
            network.names,
            sum(values.numel() for values in network.parameters()),
            stride,
        ),
        difference=_difference,
    )


def _prepare(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy whose output is one array for pictures of any size, its batch norms merged into convolutions.

    Raises:
        InvalidData: It is not a network whose boxes are suppressed behind it.
    """
    copy: Any = deepcopy(network)
    copy = copy.cpu().float().eval().fuse(verbose=False).eval()
    head = copy.model[-1]
    if type(head).__name__ != _HEAD or head.end2end:
        raise InvalidData(f"its head {type(head).__name__} gives something else than boxes and scores of anchors")
    head.export = head.dynamic = True
    return _FromPixels(copy)


def _difference(expected: FloatArray, output: FloatArray) -> str:
    difference = np.abs(expected - output)
    boxes, scores = float(difference[:, :_COORDINATES].max()), float(difference[:, _COORDINATES:].max())
    if boxes <= _MAX_BOX_DIFFERENCE and scores <= _MAX_SCORE_DIFFERENCE:  # not true for numbers that are not finite
        return ""
    return f"boxes differ by {boxes:.3g} pixels and scores by {scores:.2g}"

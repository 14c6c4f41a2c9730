"""Base class of torch detectors: upload of pictures and conversion of boxes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from motserve.base import DetectorBase
from motserve.config import DetectorConfig
from motserve.detection.common import choose_classes, group_by_shape, postprocess
from motserve.models.device import choose_device
from motserve.models.weights import Weights
from motserve.types import Detections, Image

RawDetections: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Boxes `(n, 4)` xyxy in pixels of the picture, scores `(n,)` and class indices `(n,)` of one picture."""


class TorchDetector(DetectorBase):
    """A network in torch and the code around it. Not safe for concurrent calls: one thread at a time.

    Args:
        config: Classes, `max_detections`, device and precision. Half precision is torch's automatic mixed precision.
        weights: Source of the network, for messages.
        network: The network, its weights loaded.
        names: Name of each class index that it may return.

    Raises:
        InvalidConfig: The device does not exist or a class is not one of the network's.
    """

    def __init__(
        self, config: DetectorConfig, weights: Weights, network: torch.nn.Module, names: Mapping[int, str]
    ) -> None:
        self._device = torch.device(choose_device(config.device))
        self._half = config.half and self._device.type == "cuda"
        self._names = choose_classes(names, config.classes, weights)
        self._limit = config.max_detections
        self._parameters = sum(values.numel() for values in network.parameters())
        self._network = network.eval().to(self._device)

    @property
    def class_names(self) -> Mapping[int, str]:
        """Name of each selected class, by its index."""
        return self._names

    @property
    def parameters(self) -> int:
        """Number of trained values in the network."""
        return self._parameters

    @torch.inference_mode()
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects in a batch; see `DetectorBase.detect`. Pictures of one size are one forward pass."""
        detections = [Detections.empty()] * len(images)
        for rows in group_by_shape(images):
            pixels = self._upload([images[i] for i in rows])
            with torch.autocast(self._device.type, torch.float16, enabled=self._half):
                outputs = self._forward(pixels)
            for i, (boxes, scores, labels) in zip(rows, outputs, strict=True):
                detections[i] = postprocess(
                    boxes.float().cpu().numpy(),
                    scores.float().cpu().numpy(),
                    labels.cpu().numpy(),
                    images[i].shape,
                    self._names,
                    self._limit,
                )
        return detections

    @abstractmethod
    def _forward(self, pixels: torch.Tensor) -> list[RawDetections]:
        """Detect objects in pictures of one size.

        Args:
            pixels: `(n, 3, height, width)` uint8 RGB on the device.

        Returns:
            The detections of each picture, in any order, of any class and number.
        """

    def _upload(self, images: Sequence[Image]) -> torch.Tensor:
        """Upload pixels as uint8, a quarter of the bytes of float32, and reorder them on the device."""
        pixels = torch.from_numpy(np.stack(images))
        if self._device.type == "cuda":
            pixels = pixels.pin_memory()
        return pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).flip(1)

"""Embedders on torch: motserve's own networks and the published OSNets."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig
from motserve.models.device import choose_device
from motserve.reid.backbones.osnet import OSNet
from motserve.reid.device_crops import sample_crops
from motserve.reid.embedder import CropEmbedder
from motserve.reid.network import EmbedderNetwork
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD
from motserve.types import FloatArray, Image


class TorchEmbedder(CropEmbedder):
    """A network whose embeddings are scaled to unit length: that of motserve (see `EmbedderNetwork`), or an OSNet.

    Args:
        config: Device, precision, crop size, batch size and feature.
        network: The network with its weights; it is used and modified, not copied.

    Raises:
        InvalidConfig: The device does not exist, or the network does not have the feature.
    """

    def __init__(self, config: ReIDConfig, network: EmbedderNetwork | OSNet) -> None:
        self._device = torch.device(choose_device(config.device))
        self._dtype = torch.float16 if config.half and self._device.type == "cuda" else torch.float32
        self._batch = config.batch_size
        self._crop_size = (config.crop_height, config.crop_width)
        self._network = network.eval().to(self._device, self._dtype).to(memory_format=torch.channels_last)
        self._forward = self._network.forward
        if config.feature == "before_norm":
            if not isinstance(self._network, EmbedderNetwork):
                raise InvalidConfig(
                    "reid.feature before_norm: OSNet as published has no batch norm of that kind, use after_norm"
                )
            self._forward = self._network.features
        self._mean = torch.from_numpy(IMAGENET_MEAN * 255).view(3, 1, 1).to(self._device)
        self._std = torch.from_numpy(IMAGENET_STD * 255).view(3, 1, 1).to(self._device)

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._network.dimension

    @property
    def parameters(self) -> int:
        """Number of trained values in the network, head included."""
        return sum(values.numel() for values in self._network.parameters())

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width in pixels of the network's input."""
        return self._crop_size

    @property
    def device(self) -> str:
        """Where the network runs, such as `cpu` or `cuda:0`."""
        return str(self._device)

    @torch.inference_mode()
    def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed a batch; see `ReIDBase.embed`."""
        embeddings = np.empty((len(crops), self.dimension), np.float32)
        for start in range(0, len(crops), self._batch):
            batch = slice(start, start + self._batch)
            embeddings[batch] = self._embed_pictures(self._upload(crops[batch]).permute(0, 3, 1, 2).float())
        return embeddings

    @torch.inference_mode()
    def embed_boxes(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Embed boxes of a picture; see `CropEmbedder.embed_boxes`. On CUDA the crops are cut on the device."""
        if self._device.type != "cuda":
            return super().embed_boxes(image, boxes)
        embeddings = np.empty((len(boxes), self.dimension), np.float32)
        frame = self._upload(image)
        for start in range(0, len(boxes), self._batch):
            batch = slice(start, start + self._batch)
            embeddings[batch] = self._embed_pictures(sample_crops(frame, boxes[batch], *self._crop_size))
        return embeddings

    def _upload(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Move pixels to the device as uint8, a quarter of the bytes of float32."""
        # arrays from shared memory are read-only, which torch tensors do not support
        tensor = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else tensor

    def _embed_pictures(self, pictures: torch.Tensor) -> FloatArray:
        """Return the embeddings of `(k, 3, height, width)` float BGR pictures from 0 to 255."""
        normalised = (pictures.flip(1) - self._mean) / self._std
        features = self._forward(normalised.to(self._dtype).contiguous(memory_format=torch.channels_last))
        embeddings: FloatArray = torch.nn.functional.normalize(features.float()).cpu().numpy()
        return embeddings

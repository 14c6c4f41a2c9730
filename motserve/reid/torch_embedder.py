"""Embedders on torch: motserve's own weights, OSNet's, or an ImageNet trunk that was never taught people."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from motserve.base import ReIDBase
from motserve.config import ReIDConfig
from motserve.device import choose_device
from motserve.errors import WeightsUnavailable
from motserve.reid.network import EmbedderNetwork
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD
from motserve.reid.osnet import OSNet, is_osnet, load_osnet
from motserve.types import FloatArray
from motserve.weights import Weights

logger = logging.getLogger("motserve.reid")

_HEAD_SEED = 0
"""Seed of the untrained head of an ImageNet trunk: the same projection everywhere, so embeddings can be compared."""


class TorchEmbedder(ReIDBase):
    """A network whose embeddings are scaled to unit length: that of motserve (see `EmbedderNetwork`), or an OSNet.

    Args:
        config: Device, precision, crop size and batch size.
        weights: `.safetensors` of motserve with its architecture in the metadata; a `.pth` of torchreid with an OSNet;
            or torchvision's ImageNet ResNet50.

    Raises:
        WeightsUnavailable: The file is no such thing.
    """

    def __init__(self, config: ReIDConfig, weights: Weights) -> None:
        self._device = torch.device(choose_device(config.device))
        self._dtype = torch.float16 if config.half and self._device.type == "cuda" else torch.float32
        self._batch = config.batch_size
        try:
            network = _load(weights)
        except Exception as error:
            raise WeightsUnavailable(
                f"{weights.path} is no embedder of motserve ({type(error).__name__}: {error})"
            ) from error
        self._network = network.eval().to(self._device, self._dtype).to(memory_format=torch.channels_last)
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

    @torch.inference_mode()
    def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed a batch; see `ReIDBase.embed`."""
        embeddings = np.empty((len(crops), self.dimension), np.float32)
        for start in range(0, len(crops), self._batch):
            part = slice(start, start + self._batch)
            features = torch.nn.functional.normalize(self._network(self._prepare(crops[part])).float())
            embeddings[part] = features.cpu().numpy()
        return embeddings

    def _prepare(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        """Move uint8 pixels first, a quarter of the bytes, and reorder and normalise on the device."""
        # what arrives from shared memory is read-only, which torch tensors cannot express
        pixels = torch.from_numpy(crops if crops.flags.writeable else crops.copy())
        if self._device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).flip(1).float()
        normalised = (pixels - self._mean) / self._std
        return normalised.to(self._dtype).contiguous(memory_format=torch.channels_last)


def _load(weights: Weights) -> EmbedderNetwork | OSNet:
    if weights.path.suffix != ".safetensors":
        state = torch.load(weights.path, map_location="cpu", weights_only=True)
        return load_osnet(state) if is_osnet(state) else _untrained_head(weights, state)
    with safe_open(weights.path, framework="pt") as file:
        metadata = file.metadata() or {}
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a mapping
    network = EmbedderNetwork(metadata["backbone"], int(metadata["dimension"]))
    network.load_state_dict(state)
    return network


def _untrained_head(weights: Weights, state: Mapping[str, torch.Tensor]) -> EmbedderNetwork:
    """Put torchvision's ImageNet ResNet50 under a fixed orthogonal projection, which keeps distances."""
    network = EmbedderNetwork("resnet50")
    generator = torch.Generator().manual_seed(_HEAD_SEED)
    torch.nn.init.orthogonal_(network.head.weight, generator=generator)
    missing, unexpected = network.load_trunk(state)
    if missing or unexpected:
        raise ValueError(f"neither a ResNet50 nor an OSNet: misses {missing[:3]}, has {unexpected[:3]}")
    logger.warning(
        "%s was never trained to tell people apart: identities are linked poorly until it is fine-tuned", weights.name
    )
    return network

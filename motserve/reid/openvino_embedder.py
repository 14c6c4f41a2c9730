"""Embedders on OpenVINO: motserve's own networks and the published OSNets, converted."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from motserve.config import ReIDConfig
from motserve.models.backend import OPENVINO, Convertible, choose_network
from motserve.models.openvino_network import OpenVinoNetwork
from motserve.models.weights import Weights
from motserve.reid.backbones.osnet import OSNet
from motserve.reid.embedder import CropEmbedder
from motserve.reid.loading import load_network
from motserve.reid.network import EmbedderNetwork
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD, unit_length
from motserve.reid.torch_embedder import TorchEmbedder
from motserve.types import FloatArray

_MIN_SIMILARITY: Final = 0.999
_SAMPLES: Final = 4


class OpenVinoEmbedder(CropEmbedder):
    """A converted network, with the properties of the embedder that it replaces.

    Args:
        original: That embedder; it is not kept.
        network: Crops to embeddings.
        batch_size: Largest number of crops in one pass.
    """

    def __init__(self, original: TorchEmbedder, network: OpenVinoNetwork, batch_size: int) -> None:
        self._network = network
        self._batch = batch_size
        self._dimension, self._parameters = original.dimension, original.parameters
        self._crop_size = original.crop_size

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._dimension

    @property
    def parameters(self) -> int:
        """Number of trained values in the network, head included."""
        return self._parameters

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width in pixels of the network's input."""
        return self._crop_size

    @property
    def device(self) -> str:
        """Where the network runs."""
        return "cpu"

    @property
    def backend(self) -> str:
        """Library that runs the network."""
        return OPENVINO

    def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed a batch; see `ReIDBase.embed`."""
        embeddings = np.empty((len(crops), self._dimension), np.float32)
        for start in range(0, len(crops), self._batch):
            batch = slice(start, start + self._batch)
            embeddings[batch] = self._network(crops[batch])
        return unit_length(embeddings)


class _FromCrops(torch.nn.Module):
    """An embedder's network with the conversion of crops before it.

    Args:
        network: The network.
        feature: `reid.feature`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: EmbedderNetwork | OSNet, feature: str) -> None:
        super().__init__()
        self.network = network
        self._before_norm = feature == "before_norm"
        self.register_buffer("mean", torch.from_numpy(IMAGENET_MEAN * 255).view(3, 1, 1))
        self.register_buffer("std", torch.from_numpy(IMAGENET_STD * 255).view(3, 1, 1))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, `(n, dimension)` of any length, of `(n, height, width, 3)` uint8 BGR."""
        pictures = (crops.permute(0, 3, 1, 2).float().flip(1) - self.mean) / self.std
        if self._before_norm:
            assert isinstance(self.network, EmbedderNetwork)
            return self.network.features(pictures)
        return torch.as_tensor(self.network(pictures))


def build_native_embedder(config: ReIDConfig, weights: Weights, folder: Path | None = None) -> CropEmbedder:
    """Return the embedder for weights that PyTorch loads, on PyTorch or OpenVINO.

    Args:
        config: The configuration.
        weights: The weights.
        folder: `cache_dir`, for converted networks; see `choose_network`.

    Raises:
        InvalidConfig: The device does not exist, or the network does not support the feature, the crop size or the
            backend.
        WeightsUnavailable: The file is not an embedder.
    """
    network = load_network(config, weights)
    embedder = TorchEmbedder(config, network)
    size = embedder.crop_size
    convertible = Convertible(
        role="reid",
        weights=weights,
        settings={"size": list(size), "feature": config.feature},
        build=lambda: _FromCrops(
            deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format), config.feature
        ),
        size=size,
        samples=((_SAMPLES, *size),),
        difference=_difference,
    )
    converted = choose_network(config.backend, embedder.device, convertible, folder)
    return embedder if converted is None else OpenVinoEmbedder(embedder, converted, config.batch_size)


def _difference(expected: FloatArray, output: FloatArray) -> str:
    similarity = float((unit_length(expected) * unit_length(output)).sum(axis=1).min())
    return "" if similarity >= _MIN_SIMILARITY else f"the cosine similarity of embeddings is {similarity:.5f}"

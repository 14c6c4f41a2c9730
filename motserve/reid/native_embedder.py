"""Loads motserve's own networks and the published OSNets, on PyTorch or converted for OpenVINO."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Final

import torch

from motserve.config import ReIDConfig
from motserve.models.backend import Convertible, choose_network
from motserve.models.weights import Weights
from motserve.reid.backbones.osnet import OSNet
from motserve.reid.embedder import CropEmbedder
from motserve.reid.loading import load_network
from motserve.reid.network import EmbedderNetwork
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD, unit_length
from motserve.reid.openvino_embedder import OpenVinoEmbedder, conversion_settings, facts_of
from motserve.reid.torch_embedder import TorchEmbedder
from motserve.types import FloatArray

_MIN_SIMILARITY: Final = 0.999
_SAMPLES: Final = 4


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
        settings=conversion_settings(config),
        build=lambda: _FromCrops(
            deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format), config.feature
        ),
        any_size=False,
        samples=((_SAMPLES, *size),),
        facts=facts_of(embedder.dimension, embedder.parameters),
        difference=_difference,
    )
    converted = choose_network(config.backend, embedder.device, convertible, folder)
    return embedder if converted is None else OpenVinoEmbedder(config, converted)


def _difference(expected: FloatArray, output: FloatArray) -> str:
    similarity = float((unit_length(expected) * unit_length(output)).sum(axis=1).min())
    return "" if similarity >= _MIN_SIMILARITY else f"the cosine similarity of embeddings is {similarity:.5f}"

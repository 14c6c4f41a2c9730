"""Embedders on OpenVINO, without PyTorch: a process starts sooner and needs less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from motserve.config import ReIDConfig
from motserve.models.backend import OPENVINO, TORCH, runs_on_openvino, stored_network
from motserve.models.openvino_network import OpenVinoNetwork
from motserve.models.weights import Weights
from motserve.reid.embedder import CropEmbedder
from motserve.reid.normalise import unit_length
from motserve.types import FloatArray

_EXPORTED: Final = ".onnx"
_SUFFIX: Final = ".safetensors"
"""Of motserve's own weights. Other files are opened by PyTorch: some of them are not trained, and the log says so."""


class OpenVinoEmbedder(CropEmbedder):
    """A converted network.

    Args:
        config: Crop size and batch size.
        network: Crops to embeddings, with the facts of `facts_of`.
    """

    def __init__(self, config: ReIDConfig, network: OpenVinoNetwork) -> None:
        self._network = network
        self._batch = config.batch_size
        self._dimension, self._parameters = int(network.facts["dimension"]), int(network.facts["parameters"])
        self._crop_size = config.crop_height, config.crop_width

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


def facts_of(dimension: int, parameters: int) -> dict[str, Any]:
    """Return what is stored with a converted network.

    Args:
        dimension: Length of an embedding.
        parameters: Number of trained values.
    """
    return {"dimension": dimension, "parameters": parameters}


def conversion_settings(config: ReIDConfig) -> dict[str, Any]:
    """Return the settings that a converted network depends on."""
    return {"size": [config.crop_height, config.crop_width], "feature": config.feature}


def expected_backend(config: ReIDConfig, weights: Weights, folder: Path | None) -> str:
    """Return the `backend` that an embedder will have, unless converting its network fails the first time.

    Args:
        config: Backend and device.
        weights: The embedder's weights.
        folder: `cache_dir`, with the converted networks; None if there is none.

    Returns:
        `torch`, `openvino`, or nothing for exported formats.
    """
    if weights.path.suffix == _EXPORTED:
        return ""
    return OPENVINO if runs_on_openvino("reid", config, weights, conversion_settings(config), folder) else TORCH


def is_stored_format(weights: Weights) -> bool:
    """Return whether weights are not opened any more once they were converted."""
    return weights.path.suffix == _SUFFIX


def load_converted(config: ReIDConfig, weights: Weights, folder: Path | None) -> OpenVinoEmbedder | None:
    """Return the embedder for weights that were converted before; None if they were not, or PyTorch runs them.

    Args:
        config: The configuration.
        weights: The weights.
        folder: `cache_dir`, with the converted networks; None if there is none.
    """
    if not is_stored_format(weights) or expected_backend(config, weights, folder) != OPENVINO:
        return None
    network = stored_network("reid", weights, conversion_settings(config), folder)
    return None if network is None else OpenVinoEmbedder(config, network)

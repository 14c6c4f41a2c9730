"""Builds the network with its initial weights, and writes it to a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from motserve.config import Config, MlflowConfig, ReIDConfig, change_config
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.files.atomic import replacing
from motserve.models.downloads import IMAGENET as PUBLISHED
from motserve.models.weights import Weights, resolve_weights
from motserve.reid.backbones import identify_backbone
from motserve.reid.backbones.osnet import bare_state
from motserve.reid.loading import load_network
from motserve.reid.network import EmbedderNetwork
from training.job_config import SCRATCH
from training.reid.config import CropConfig, NetworkConfig

logger = logging.getLogger("motserve.training.reid")

IMAGENET: Final = "imagenet"
"""Value of `network.init` for the trunk of torchvision."""


def build_network(settings: NetworkConfig, crops: CropConfig) -> EmbedderNetwork:
    """Return the network with random weights.

    Raises:
        InvalidConfig: The backbone cannot take crops of that size.
    """
    network = EmbedderNetwork(settings.backbone, settings.dimension, (crops.height, crops.width))
    if settings.norm_momentum is not None:
        for module in network.trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = settings.norm_momentum
    return network


def load_start(
    network: EmbedderNetwork, settings: NetworkConfig, crops: CropConfig, mlflow: MlflowConfig
) -> Weights | None:
    """Load the initial weights into a network.

    Args:
        network: From `build_network`.
        settings: The weights to load.
        crops: The size of the crops.
        mlflow: The registry of `models:/…`.

    Returns:
        The weights; None for `scratch`.

    Raises:
        InvalidConfig: The weights are those of another network.
        WeightsUnavailable: They are not available.
    """
    if settings.init == SCRATCH:
        return None
    weights = _find(settings, mlflow)
    if weights.path.suffix == ".safetensors":
        network.load_state_dict(_load_embedder(settings, crops, weights).state_dict())
    else:
        _load_trunk(network, settings, weights)
    logger.info("starts from weights", extra={"weights": weights.name, "sha256": weights.sha256})
    return weights


def save_network(state: Mapping[str, torch.Tensor], settings: NetworkConfig, crops: CropConfig, path: Path) -> None:
    """Write the weights of an embedder as motserve loads them.

    They are in single precision: they may be fine-tuned, and variances of batch norms can exceed the range of half
    precision. A service converts them to half precision if configured.

    Args:
        state: State of an `EmbedderNetwork`.
        settings: The network.
        crops: The size of its crops.
        path: The file.
    """
    metadata = {
        "backbone": settings.backbone,
        "dimension": str(settings.dimension),
        "crop_height": str(crops.height),
        "crop_width": str(crops.width),
        "command": "python -m training.reid",
    }
    with replacing(path) as partial:
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, partial, metadata)


def _find(settings: NetworkConfig, mlflow: MlflowConfig) -> Weights:
    name = settings.init
    if name == IMAGENET:
        name = f"{settings.backbone}-imagenet"
        if name not in PUBLISHED:
            raise InvalidConfig(
                f"network.init imagenet: there are weights for {', '.join(PUBLISHED.values())}, not for "
                f"{settings.backbone}; give a .pth file of torchreid, or scratch"
            )
    changes = {"reid": {"weights": [name]}, "models_dir": settings.models_dir, "mlflow": mlflow.model_dump()}
    return resolve_weights("reid", change_config(Config(), changes))


def _load_embedder(settings: NetworkConfig, crops: CropConfig, weights: Weights) -> EmbedderNetwork:
    """Load an embedder of motserve, which must have the architecture of the trained network."""
    with safe_open(weights.path, framework="pt") as file:
        metadata = file.metadata() or {}
    architecture = metadata.get("backbone"), metadata.get("dimension")
    if architecture != (settings.backbone, str(settings.dimension)):
        raise InvalidConfig(
            f"network.init {weights.name} is {architecture[0]} with {architecture[1]} dimensions, but network.backbone "
            f"is {settings.backbone} and network.dimension {settings.dimension}; set them alike, or choose another init"
        )
    network = load_network(ReIDConfig(crop_height=crops.height, crop_width=crops.width), weights)
    assert isinstance(network, EmbedderNetwork)
    return network


def _load_trunk(network: EmbedderNetwork, settings: NetworkConfig, weights: Weights) -> None:
    """Load the trunk of a published classifier or OSNet; the rest of the network is unchanged."""
    try:
        state = bare_state(torch.load(weights.path, map_location="cpu", weights_only=True))
        backbone = identify_backbone(state)
        if backbone == settings.backbone:
            missing, unexpected = network.load_trunk(state)
            if missing or unexpected:
                raise ValueError(f"misses {missing[:3]}, has {unexpected[:3]}")
    except Exception as error:
        raise WeightsUnavailable(
            f"network.init {weights.name} does not fit a {settings.backbone} ({type(error).__name__}: {error})"
        ) from error
    if backbone != settings.backbone:
        raise InvalidConfig(
            f"network.init {weights.name} is {backbone or 'of an unknown network'}, but network.backbone is "
            f"{settings.backbone}; set them alike, or choose another init"
        )

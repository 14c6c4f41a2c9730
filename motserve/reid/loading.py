"""Reads embedders from files: motserve's own, OSNets of torchreid, and ImageNet classifiers of torchvision."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import safe_open

from motserve.config import ReIDConfig
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.weights import Weights
from motserve.reid.backbones import BACKBONES, tell_backbone
from motserve.reid.network import EmbedderNetwork
from motserve.reid.osnet import OSNet, bare_state, is_osnet, load_osnet

logger = logging.getLogger("motserve.reid")

_HEAD_SEED = 0
"""Seed of the untrained head of an ImageNet trunk: the same projection everywhere, so embeddings can be compared."""


def load_network(config: ReIDConfig, weights: Weights) -> EmbedderNetwork | OSNet:
    """Return the network in a file.

    Args:
        config: The size of the crops that it will see.
        weights: `.safetensors` of motserve with `backbone` and `dimension` in the metadata; a `.pth` of torchreid
            with an OSNet; or a `.pth` of torchvision with an ImageNet classifier on one of `BACKBONES`, whose tensors
            tell which.

    Raises:
        InvalidConfig: The network cannot take crops of that size.
        WeightsUnavailable: The file is no such thing.
    """
    try:
        if weights.path.suffix == ".safetensors":
            return _own(config, weights)
        state = torch.load(weights.path, map_location="cpu", weights_only=True)
        return load_osnet(state) if is_osnet(state) else _untrained_head(config, weights, bare_state(state))
    except InvalidConfig:
        raise
    except Exception as error:
        raise WeightsUnavailable(
            f"{weights.path} is no embedder of motserve ({type(error).__name__}: {error})"
        ) from error


def _own(config: ReIDConfig, weights: Weights) -> EmbedderNetwork:
    with safe_open(weights.path, framework="pt") as file:
        metadata = file.metadata() or {}
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a mapping
    network = EmbedderNetwork(metadata["backbone"], int(metadata["dimension"]), (config.crop_height, config.crop_width))
    network.load_state_dict(state)
    return network


def _untrained_head(config: ReIDConfig, weights: Weights, state: Mapping[str, Any]) -> EmbedderNetwork:
    """Put torchvision's ImageNet trunk under a fixed orthogonal projection, which keeps distances."""
    backbone = tell_backbone(state)
    if backbone is None:
        raise ValueError(f"neither an OSNet nor an ImageNet classifier on one of {', '.join(BACKBONES)}")
    network = EmbedderNetwork(backbone, crop_size=(config.crop_height, config.crop_width))
    generator = torch.Generator().manual_seed(_HEAD_SEED)
    torch.nn.init.orthogonal_(network.head.weight, generator=generator)
    missing, unexpected = network.load_trunk(state)
    if missing or unexpected:
        raise ValueError(f"no {backbone}: misses {missing[:3]}, has {unexpected[:3]}")
    logger.warning(
        "%s was never trained to tell people apart: identities are linked poorly until it is fine-tuned", weights.name
    )
    return network

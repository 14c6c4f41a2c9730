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
from motserve.reid.backbones import BACKBONES, identify_backbone
from motserve.reid.backbones.osnet import OSNet, bare_state, is_osnet, load_osnet
from motserve.reid.network import EmbedderNetwork

logger = logging.getLogger("motserve.reid")

_HEAD_SEED = 0
"""Seed of the untrained head of an ImageNet trunk: the same projection everywhere, so embeddings can be compared."""


def load_network(config: ReIDConfig, weights: Weights) -> EmbedderNetwork | OSNet:
    """Return the network in a file.

    Args:
        config: The size of the crops.
        weights: `.safetensors` of motserve with `backbone` and `dimension` in the metadata; a `.pth` of torchreid
            with an OSNet; or a `.pth` of torchvision with an ImageNet classifier on one of `BACKBONES`, which is
            identified by its tensors.

    Raises:
        InvalidConfig: The network cannot take crops of that size.
        WeightsUnavailable: The file is none of these.
    """
    try:
        if weights.path.suffix == ".safetensors":
            return _load_motserve(config, weights)
        state = torch.load(weights.path, map_location="cpu", weights_only=True)
        return load_osnet(state) if is_osnet(state) else _untrained_head(config, weights, bare_state(state))
    except InvalidConfig:
        raise
    except Exception as error:
        raise WeightsUnavailable(
            f"{weights.path} is not an embedder that motserve can load ({type(error).__name__}: {error})"
        ) from error


def _load_motserve(config: ReIDConfig, weights: Weights) -> EmbedderNetwork:
    with safe_open(weights.path, framework="pt") as file:
        metadata = file.metadata() or {}
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a mapping
    network = EmbedderNetwork(metadata["backbone"], int(metadata["dimension"]), (config.crop_height, config.crop_width))
    network.load_state_dict(state)
    return network


def _untrained_head(config: ReIDConfig, weights: Weights, state: Mapping[str, Any]) -> EmbedderNetwork:
    """Put a fixed orthogonal projection, which preserves distances, on torchvision's ImageNet trunk."""
    backbone = identify_backbone(state)
    if backbone is None:
        raise ValueError(f"neither an OSNet nor an ImageNet classifier on one of {', '.join(BACKBONES)}")
    network = EmbedderNetwork(backbone, crop_size=(config.crop_height, config.crop_width))
    generator = torch.Generator().manual_seed(_HEAD_SEED)
    torch.nn.init.orthogonal_(network.head.weight, generator=generator)
    missing, unexpected = network.load_trunk(state)
    if missing or unexpected:
        raise ValueError(f"not a {backbone}: missing {missing[:3]}, unexpected {unexpected[:3]}")
    logger.warning(
        "%s was never trained for re-identification: identities are linked poorly until it is fine-tuned", weights.name
    )
    return network

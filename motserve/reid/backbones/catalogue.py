"""The backbones of embedders by name, and how published weights are converted for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
import torchvision
from torch import nn

from motserve.reid.backbones import striped, vit
from motserve.reid.backbones.osnet import WIDTHS, OSNetTrunk, bare_state


@dataclass(frozen=True, slots=True)
class Backbone:
    """One backbone.

    Attributes:
        channels: Channels of its feature maps.
        build: Builds the untrained network for pictures of a height and a width in pixels; it maps
            `(n, 3, height, width)` to `(n, channels, rows, columns)`.
        translate: Converts a published state dict to that of the backbone; the classifier's tensors are dropped.
        mark: Name of the tensor that identifies a published state dict: its first length is `channels`; None without
            published weights.
    """

    channels: int
    build: Callable[[int, int], nn.Module]
    translate: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]
    mark: str | None


def identify_backbone(state: Mapping[str, Any]) -> str | None:
    """Return the name of the backbone whose published weights a state dict holds; None if there is no such backbone.

    Args:
        state: A state dict of torchvision or torchreid, bare.
    """
    for name, backbone in BACKBONES.items():
        tensor = None if backbone.mark is None else state.get(backbone.mark)
        if isinstance(tensor, torch.Tensor) and tensor.ndim and len(tensor) == backbone.channels:
            return name
    return None


def _resnet(*_: int) -> nn.Module:
    net = torchvision.models.resnet50(weights=None)
    first = net.layer4[0]
    # A last stride of 1 keeps twice as many rows and columns (Sun et al., ECCV 2018); no weight changes shape.
    first.conv2.stride, first.downsample[0].stride = (1, 1), (1, 1)
    return nn.Sequential(*(getattr(net, name) for name in _RESNET_STAGES))


def _from_resnet(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts = ((*name.partition("."), value) for name, value in state.items() if not name.startswith("fc."))
    return {f"{_RESNET_INDICES.get(first, first)}.{rest}": value for first, _, rest, value in parts}


def _features(name: str, *_: int) -> nn.Module:
    features: nn.Module = torchvision.models.get_model(name, weights=None).features
    return features


def _from_features(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    features = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    return {name.removeprefix("features."): value for name, value in features.items()}


def _of_any_size(trunk: Callable[[str], nn.Module], name: str, *_: int) -> nn.Module:
    return trunk(name)


def _from_osnet(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in bare_state(state).items() if not name.startswith(("fc.", "classifier."))}


_RESNET_STAGES: Final = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_RESNET_INDICES: Final = {name: str(index) for index, name in enumerate(_RESNET_STAGES)}

BACKBONES: Final[Mapping[str, Backbone]] = {
    "resnet50": Backbone(2048, _resnet, _from_resnet, "layer4.2.conv3.weight"),
    "vit_b_16": Backbone(vit.CHANNELS, vit.VisionTransformer, vit.from_torchvision, "encoder.ln.weight"),
    **{
        name: Backbone(channels, partial(_features, name), _from_features, f"features.{last}.0.weight")
        for name, channels, last in (
            ("efficientnet_b4", 1792, 8),
            ("mobilenet_v3_large", 960, 16),
            ("mobilenet_v3_small", 576, 12),
        )
    },
    **{
        name: Backbone(widths[-1], partial(_of_any_size, OSNetTrunk, name), _from_osnet, "conv5.conv.weight")
        for name, widths in WIDTHS.items()
    },
    **{
        name: Backbone(striped.channels(name), partial(_of_any_size, striped.StripedTrunk, name), dict, None)
        for name in striped.WIDTHS
    },
}
"""Backbones by name: torchvision's names for its networks, the paper's for OSNet."""

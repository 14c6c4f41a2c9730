"""OSNet, a small network for re-identification that combines several scales at each position.

Reference: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019. Layers have the names
of the weights published with the paper (torchreid), so that these can be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

WIDTHS: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "osnet_x1_0": (64, 256, 384, 512),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_25": (16, 64, 96, 128),
}
"""Channels after the first convolution and after each of the three stages."""

_SCALES: Final = 4
_BOTTLENECK: Final = 4  # a block works on a fourth of its channels
_GATE_REDUCTION: Final = 16
_DIMENSION: Final = 512


class OSNetTrunk(nn.Module):
    """Pictures to feature maps, a sixteenth of the pictures' height and width.

    Args:
        name: A key of `WIDTHS`, whose last number is the number of channels.

    Raises:
        ValueError: The name is not known.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in WIDTHS:
            raise ValueError(f"unknown OSNet {name!r}; known are {', '.join(WIDTHS)}")
        first, second, third, last = WIDTHS[name]
        self.conv1 = _Convolution(3, first, kernel=7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = nn.Sequential(_Block(first, second), _Block(second, second), _halving(second))
        self.conv3 = nn.Sequential(_Block(second, third), _Block(third, third), _halving(third))
        self.conv4 = nn.Sequential(_Block(third, last), _Block(last, last))
        self.conv5 = _Convolution(last, last)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return `(n, channels, height / 16, width / 16)` for normalised RGB pictures `(n, 3, height, width)`."""
        maps = self.conv3(self.conv2(self.maxpool(self.conv1(pictures))))
        return torch.as_tensor(self.conv5(self.conv4(maps)))


class OSNet(OSNetTrunk):
    """Pictures to embeddings, with the head that was published.

    Args:
        name: A key of `WIDTHS`.
        dimension: Length of an embedding.

    Attributes:
        dimension: Length of an embedding.

    Raises:
        ValueError: The name is not known.
    """

    def __init__(self, name: str, dimension: int = _DIMENSION) -> None:
        super().__init__(name)
        self.dimension = dimension
        last = WIDTHS[name][-1]
        self.fc = nn.Sequential(nn.Linear(last, dimension), nn.BatchNorm1d(dimension), nn.ReLU(inplace=True))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Embed pictures.

        Args:
            pictures: `(n, 3, height, width)` float, RGB, normalised with ImageNet's mean and deviation.

        Returns:
            `(n, dimension)`, not of unit length.
        """
        embeddings: torch.Tensor = self.fc(super().forward(pictures).mean(dim=(2, 3)))
        return embeddings


def is_osnet(state: Mapping[str, Any]) -> bool:
    """Tell whether a state dict of torchreid is that of an OSNet."""
    return "conv2.0.conv2a.conv1.weight" in bare_state(state)


def load_osnet(state: Mapping[str, Any]) -> OSNet:
    """Return the network of a state dict of torchreid; its classifier is ignored.

    Args:
        state: The state dict, or a checkpoint that holds one; names may begin with `module.`.

    Raises:
        ValueError: The width is not one of `WIDTHS`, or a tensor is missing or has another shape.
    """
    tensors = {name: value for name, value in bare_state(state).items() if not name.startswith("classifier.")}
    channels = {widths[0]: name for name, widths in WIDTHS.items()}
    width, dimension = (tensors[name].shape[0] for name in ("conv1.conv.weight", "fc.0.weight"))
    if width not in channels:
        raise ValueError(f"an OSNet whose first layer has {width} channels is not known; known are {sorted(channels)}")
    network = OSNet(channels[width], dimension)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return network


def bare_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a checkpoint by their names in the network.

    Args:
        state: A state dict or a checkpoint that holds one as `state_dict`; names may begin with `module.`, as those
            of a network that was trained on several devices do.
    """
    inner = state.get("state_dict", state)
    return {name.removeprefix("module."): value for name, value in inner.items()}


class _Convolution(nn.Module):
    """Convolution, batch norm and, unless it is linear, ReLU."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, *, linear: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)
        self.relu = nn.Identity() if linear else nn.ReLU(inplace=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.relu(self.bn(self.conv(maps)))
        return result


class _LightConvolution(nn.Module):
    """A 3 x 3 convolution in two steps: across channels, then within each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.relu(self.bn(self.conv2(self.conv1(maps))))
        return result


class _Gate(nn.Module):
    """Weights the channels of one scale by their means; all scales of a block share the gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // _GATE_REDUCTION
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        pooled = maps.mean(dim=(2, 3), keepdim=True)
        weighed: torch.Tensor = maps * self.fc2(self.fc1(pooled).relu()).sigmoid()
        return weighed


class _Block(nn.Module):
    """A residual block with one to four light convolutions side by side."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        inner = after // _BOTTLENECK
        self.conv1 = _Convolution(before, inner)
        self.conv2a = _LightConvolution(inner)
        self.conv2b, self.conv2c, self.conv2d = (
            nn.Sequential(*(_LightConvolution(inner) for _ in range(depth))) for depth in range(2, _SCALES + 1)
        )
        self.gate = _Gate(inner)
        self.conv3 = _Convolution(inner, after, linear=True)
        self.downsample = _Convolution(before, after, linear=True) if before != after else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = self.conv1(maps)
        scales = [scale(inner) for scale in (self.conv2a, self.conv2b, self.conv2c, self.conv2d)]
        joined = self.conv3(torch.stack([self.gate(scale) for scale in scales]).sum(dim=0))
        return torch.relu(joined + (maps if self.downsample is None else self.downsample(maps)))


def _halving(channels: int) -> nn.Sequential:
    return nn.Sequential(_Convolution(channels, channels), nn.AvgPool2d(2, stride=2))

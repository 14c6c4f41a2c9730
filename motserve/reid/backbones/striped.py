"""A narrow residual network whose features are means of horizontal stripes of a person.

Clothing is arranged from top to bottom, and a mean over the whole crop loses the position of a colour. Blocks are
torchvision's; they train from random weights in a fraction of the steps that depthwise convolutions need.

Reference: Sun et al., "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV 2018, for the stripes; He
et al., "Deep Residual Learning for Image Recognition", CVPR 2016, for the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

WIDTHS: Final[Mapping[str, int]] = {"striped_resnet10_x0_25": 16, "striped_resnet10_x0_5": 32}
"""Channels of the first stage (64 in a ResNet); each later stage has twice as many as the one before."""

STRIPES: Final = 4

_STRIDES: Final = (2, 2, 2, 1)  # of the stages; the last one keeps its resolution, as in the paper
_INPUT_SIZE: Final = (64, 32)


class StripedTrunk(nn.Module):
    """Pictures to the features of their stripes, one block a stage.

    Pictures are reduced to 64 x 32 pixels by averaging, so that the result does not depend on the resolution of the
    crop, and training can use crops of that size.

    Args:
        name: A key of `WIDTHS`.

    Raises:
        ValueError: The name is not known.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in WIDTHS:
            raise ValueError(f"unknown network {name!r}; known are {', '.join(WIDTHS)}")
        width = WIDTHS[name]
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        widths = [width << stage for stage in range(len(_STRIDES))]
        before = [width, *widths[:-1]]
        self.stages = nn.Sequential(*map(_block, before, widths, _STRIDES))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the features of pictures.

        Args:
            pictures: `(n, 3, height, width)` float, RGB, normalised with ImageNet's mean and deviation.

        Returns:
            `(n, STRIPES * channels, 1, 1)`: the mean of each stripe, the stripes of a channel adjacent.
        """
        resized = nn.functional.adaptive_avg_pool2d(pictures, _INPUT_SIZE)
        stripes = nn.functional.adaptive_avg_pool2d(self.stages(self.stem(resized)), (STRIPES, 1))
        return stripes.flatten(1)[:, :, None, None]


def channels(name: str) -> int:
    """Return the number of features of a network by its name, those of all stripes together."""
    return STRIPES * WIDTHS[name] << (len(_STRIDES) - 1)


def _block(before: int, after: int, stride: int) -> nn.Module:
    shortcut = None
    if stride > 1 or before != after:
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    block: nn.Module = BasicBlock(before, after, stride, shortcut)
    return block

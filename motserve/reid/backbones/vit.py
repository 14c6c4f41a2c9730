"""The vision transformer as a trunk, for pictures of any size that is a multiple of its patches.

Reference: Dosovitskiy et al., "An Image Is Worth 16x16 Words", ICLR 2021. Layers are torchvision's. Position embeddings
are stored as a map, rows by columns, so that weights state their picture size and can be resampled for another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
import torchvision
from torch import nn

from motserve.errors import InvalidConfig

PATCH: Final = 16
"""Height and width of a patch in pixels."""

CHANNELS: Final = 768
"""Length of a patch's token and of the class token."""

_INITIAL_STD: Final = 0.02  # of position embeddings, as in the paper's code


class VisionTransformer(nn.Module):
    """ViT-B/16 up to its class token, for pictures of one size.

    Args:
        height: Height of the pictures in pixels, a multiple of `PATCH`.
        width: Width of the pictures in pixels, a multiple of `PATCH`.

    Raises:
        InvalidConfig: Height or width is not a multiple of `PATCH`.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        if height % PATCH or width % PATCH:
            raise InvalidConfig(
                f"reid.crop_height {height} and reid.crop_width {width}: vit_b_16 cuts a crop into patches of {PATCH} "
                f"x {PATCH} pixels, use multiples of {PATCH}"
            )
        net = torchvision.models.vit_b_16(weights=None)
        self.conv_proj, self.class_token = net.conv_proj, net.class_token
        self.class_position = nn.Parameter(_INITIAL_STD * torch.randn(1, 1, CHANNELS))
        self.positions = nn.Parameter(_INITIAL_STD * torch.randn(1, CHANNELS, height // PATCH, width // PATCH))
        self.layers, self.ln = net.encoder.layers, net.encoder.ln

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the class token of pictures.

        Args:
            pictures: `(n, 3, height, width)` float, RGB, normalised with ImageNet's mean and deviation.

        Returns:
            `(n, 768, 1, 1)`: the class token, as a feature map of one position.
        """
        patches = (self.conv_proj(pictures) + self.positions).flatten(2).transpose(1, 2)
        token = (self.class_token + self.class_position).expand(len(pictures), -1, -1)
        tokens = self.layers(torch.cat([token, patches], dim=1))
        return torch.as_tensor(self.ln(tokens[:, 0])[:, :, None, None])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Resample the position embeddings of weights for pictures of another size."""
        name = f"{prefix}positions"
        stored, grid = state_dict.get(name), self.positions.shape[2:]
        if stored is not None and stored.ndim == self.positions.ndim and stored.shape[2:] != grid:
            resampled = nn.functional.interpolate(stored.float(), tuple(grid), mode="bicubic", align_corners=True)
            state_dict[name] = resampled.to(stored.dtype)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def from_torchvision(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the tensors of torchvision's `vit_b_16`; its classifier is ignored.

    Args:
        state: The state dict; its square grid of positions follows the class token's.
    """
    trunk = {}
    for name, value in state.items():
        if name == "encoder.pos_embedding":
            side = math.isqrt(value.shape[1] - 1)
            trunk["class_position"] = value[:, :1]
            trunk["positions"] = value[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        elif not name.startswith("heads."):
            trunk[name.removeprefix("encoder.")] = value
    return trunk

"""The embedder's network: a trunk, average pooling, a linear layer and batch norm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from motserve.reid.backbones import BACKBONES


class EmbedderNetwork(nn.Module):
    """Trunk, global average pooling, a linear layer without bias, and batch norm (BNNeck, Luo et al., CVPRW 2019).

    Args:
        backbone: A key of `BACKBONES`.
        dimension: Length of an embedding.
        crop_size: Height and width of the pictures in pixels. Convolutional networks accept other sizes too, a
            transformer does not; its weights for another size are resampled when they are loaded.

    Attributes:
        dimension: Length of an embedding.
        trunk: Pictures to feature maps.
        head: Pooled features to `dimension` numbers; the triplet loss works on its output.
        norm: Batch norm; embeddings are compared after it, scaled to unit length by the caller.

    Raises:
        ValueError: The backbone is not known.
        InvalidConfig: The backbone cannot take pictures of that size.
    """

    def __init__(self, backbone: str, dimension: int = 512, crop_size: tuple[int, int] = (256, 128)) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"unknown backbone {backbone!r}; known are {', '.join(BACKBONES)}")
        self._backbone = BACKBONES[backbone]
        self.dimension = dimension
        self.trunk = self._backbone.build(*crop_size)
        self.head = nn.Linear(self._backbone.channels, dimension, bias=False)
        self.norm = nn.BatchNorm1d(dimension)
        # The shift of a BNNeck stays zero, so that the classifier's decision borders pass through the origin.
        self.norm.bias.requires_grad_(False)

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the input of the batch norm, `(n, dimension)`; see `forward` for the pictures."""
        pooled = self.trunk(pictures).mean(dim=(2, 3))
        return torch.as_tensor(self.head(pooled))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Embed pictures.

        Args:
            pictures: `(n, 3, height, width)` float, RGB, normalised with ImageNet's mean and deviation.

        Returns:
            `(n, dimension)`, not of unit length.
        """
        return torch.as_tensor(self.norm(self.features(pictures)))

    def load_trunk(self, state: Mapping[str, torch.Tensor]) -> tuple[list[str], list[str]]:
        """Load the trunk's weights from a published classifier.

        Args:
            state: State dict of torchvision's network of that name, or of torchreid's OSNet; its classifier is
                ignored.

        Returns:
            Names of missing tensors, and names of unexpected ones.

        Raises:
            RuntimeError: A tensor has another shape than the trunk's.
        """
        result = self.trunk.load_state_dict(self._backbone.translate(state), strict=False)
        return list(result.missing_keys), list(result.unexpected_keys)

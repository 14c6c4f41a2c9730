"""The embedder's network: a convolutional trunk, average pooling, a linear layer and batch norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torchvision
from torch import nn


class EmbedderNetwork(nn.Module):
    """Trunk, global average pooling, a linear layer without bias, and batch norm (BNNeck, Luo et al., CVPRW 2019).

    Args:
        backbone: `mobilenet_v3_small` or `resnet50`, the latter with a last stride of 1.
        dimension: Length of an embedding.

    Attributes:
        dimension: Length of an embedding.
        trunk: Pictures to feature maps.
        head: Pooled features to `dimension` numbers; the triplet loss works on its output.
        norm: Batch norm; embeddings are compared after it, scaled to unit length by the caller.

    Raises:
        ValueError: The backbone is not known.
    """

    def __init__(self, backbone: str, dimension: int = 512) -> None:
        super().__init__()
        if backbone not in _TRUNKS:
            raise ValueError(f"unknown backbone {backbone!r}; known are {', '.join(sorted(_TRUNKS))}")
        self.dimension = dimension
        self.trunk, channels = _TRUNKS[backbone]()
        self.head = nn.Linear(channels, dimension, bias=False)
        self.norm = nn.BatchNorm1d(dimension)
        # The shift of a BNNeck stays zero, so that the classifier's decision borders pass through the origin.
        self.norm.bias.requires_grad_(False)

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return what goes into the batch norm, `(n, dimension)`; see `forward` for the pictures."""
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
        """Take the trunk's weights from a classifier of torchvision.

        Args:
            state: State dict of torchvision's `resnet50`; its classifier is passed over.

        Returns:
            Names that the trunk misses, and names that it does not know.
        """
        trunk = {
            _RESNET_NAMES.get(name.partition(".")[0], name.partition(".")[0]) + "." + name.partition(".")[2]: value
            for name, value in state.items()
            if not name.startswith("fc.")
        }
        result = self.trunk.load_state_dict(trunk, strict=False)
        return list(result.missing_keys), list(result.unexpected_keys)


def _mobilenet() -> tuple[nn.Module, int]:
    return torchvision.models.mobilenet_v3_small(weights=None).features, 576


def _resnet() -> tuple[nn.Module, int]:
    net = torchvision.models.resnet50(weights=None)
    first = net.layer4[0]
    # A last stride of 1 keeps twice as many rows and columns (Sun et al., ECCV 2018); no weight changes shape.
    first.conv2.stride, first.downsample[0].stride = (1, 1), (1, 1)
    stages = {name: getattr(net, name) for name in _RESNET_STAGES}
    return nn.Sequential(*stages.values()), 2048


_RESNET_STAGES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_RESNET_NAMES = {name: str(index) for index, name in enumerate(_RESNET_STAGES)}
_TRUNKS: dict[str, Callable[[], tuple[nn.Module, int]]] = {"mobilenet_v3_small": _mobilenet, "resnet50": _resnet}

"""NanoDet-g as a network of Ultralytics, with the published weights.

RangiLyu, "NanoDet-Plus: Super fast and high accuracy lightweight anchor-free object detection model", 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from motserve.detection.yolo_network import SHORT_HEAD, build_network
from motserve.errors import InvalidData
from motserve.types import FloatArray

ARCHITECTURE: Final = "nanodet-g"

_MEAN: Final = (103.53, 116.28, 123.675)
_STD: Final = (57.375, 57.12, 58.395)
"""Mean and standard deviation of blue, green and red, by which NanoDet's pictures are normalised."""

_CLASSES, _BINS = 80, 11
_PERSON: Final = 0
_NEVER: Final = -20.0
"""Logit of the bins of an edge's distribution that NanoDet does not have."""

_EPSILON: Final = 1e-3
_LEAST_VARIANCE: Final = 1e-6


def _layers() -> tuple[list[list[Any]], list[list[Any]]]:
    backbone: list[list[Any]] = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "nn.MaxPool2d", [3, 2, 1]]]

    def add(source: int | list[int], module: str, *arguments: Any) -> int:
        backbone.append([source, 1, module, list(arguments)])
        return len(backbone) - 1

    stages: list[int] = []
    for width, pairs, stride in ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2)):
        start = add(-1, "Conv", width, 3, stride)
        for _ in range(pairs):
            first = add(-1, "Conv", width // 2, 3, 1)
            second = add(-1, "Conv", width // 2, 3, 1)
            add([second, first], "Concat", 1)
        last = add(-1, "Conv", width, 3, 1)
        stages.append(add([last, start], "Concat", 1))
    _, *(p3, p4, p5) = stages
    head: list[list[Any]] = []

    def join(source: int | list[int], module: str, *arguments: Any) -> int:
        head.append([source, 1, module, list(arguments)])
        return len(backbone) + len(head) - 1

    def mix(source: int | list[int]) -> int:
        """Mix channels by a 1 by 1 convolution without activation; over two inputs it can add them."""
        if isinstance(source, list):
            source = join(source, "Concat", 1)
        return join(source, "Conv", 128, 1, 1, None, 1, 1, False)

    a5 = mix(p5)
    a4 = mix([p4, join(a5, "nn.Upsample", None, 2, "bilinear")])
    a3 = mix([p3, join(a4, "nn.Upsample", None, 2, "bilinear")])
    b4 = mix([a4, join(a3, "nn.AvgPool2d", 2)])
    b5 = mix([a5, join(b4, "nn.AvgPool2d", 2)])
    join([a3, b4, b5], "Detect", "nc")
    return backbone, head


_BACKBONE, _HEAD = _layers()

DESCRIPTION: Final[Mapping[str, Any]] = {
    "nc": 1,
    "activation": "torch.nn.LeakyReLU(0.1)",
    SHORT_HEAD: True,
    "backbone": _BACKBONE,
    "head": _HEAD,
}
"""The network, in the form of Ultralytics. NanoDet adds feature maps; here 1 by 1 convolutions do it."""


def convert(published: Mapping[str, FloatArray], shift: float = 0.0) -> Any:
    """Return the network with the published weights, for people only.

    Args:
        published: The weights as `read_tfjs` returns them; batch normalisation is part of the convolutions.
        shift: Summand of the logits of all scores. Raised, scores are higher, and the same threshold gives more
            people and more false detections.

    Raises:
        InvalidData: Weights are missing or have other shapes.
    """
    network = build_network(DESCRIPTION, 1)
    network.names = {0: "person"}
    try:
        kernels = _kernels(published)
        convolutions = [layer for layer in network.model[:-1] if hasattr(layer, "conv")]
        for layer, (kernel, bias) in zip(convolutions, kernels, strict=True):
            _fill(layer, kernel, bias)
        _fill_head(network.model[-1], published, shift)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InvalidData(f"these are not the weights of NanoDet-g ({type(error).__name__}: {error})") from error
    return network


def _published(weights: Mapping[str, FloatArray], kernel: str, bias: int) -> tuple[Tensor, Tensor]:
    # TensorFlow orders kernels by row, column, input, output
    return (
        torch.from_numpy(np.ascontiguousarray(weights[f"PartitionedCall/{kernel}"].transpose(3, 2, 0, 1))),
        torch.from_numpy(weights[f"unknown_{bias}"].copy()),
    )


def _kernels(weights: Mapping[str, FloatArray]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield kernel and bias of each convolution before the head, in the order of the layers."""
    kernel, bias = _published(weights, "split", 0)
    yield _for_rgb(kernel, bias)
    for index in range(1, 25):
        yield _published(weights, f"split_{index}", 2 * index)
    identity, nothing = torch.eye(128)[..., None, None], torch.zeros(128)
    yield _published(weights, "split_27", 54)
    for name, index in (("split_26", 52), ("split_25", 50)):
        kernel, bias = _published(weights, name, index)
        yield torch.cat([kernel, identity], dim=1), bias
    for _ in range(2):
        yield torch.cat([identity, identity], dim=1), nothing


def _for_rgb(kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first convolution for pictures in RGB and [0, 1] instead of normalised BGR."""
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (_MEAN, _STD))
    return (kernel * 255 / std).flip(1), bias - (kernel * mean / std).sum(dim=(1, 2, 3))


def _fill_head(head: Any, weights: Mapping[str, FloatArray], shift: float) -> None:
    for scale, (features, outputs) in enumerate(((60, 62), (66, 68), (70, 72))):
        kernel, bias = _published(weights, f"split_{28 + 2 * scale}", features)
        last, offsets = _published(weights, f"split_{29 + 2 * scale}", outputs)
        boxes, scores = head.cv2[scale], head.cv3[scale]
        for branch in (boxes, scores):
            _fill(branch[0], kernel, bias)
        with torch.no_grad():
            scores[-1].weight.copy_(last[_PERSON : _PERSON + 1])
            scores[-1].bias.copy_(offsets[_PERSON : _PERSON + 1] + shift)
            boxes[-1].weight.zero_()
            boxes[-1].bias.fill_(_NEVER)
            for mine, theirs in ((boxes[-1].weight, last[_CLASSES:]), (boxes[-1].bias, offsets[_CLASSES:])):
                edges = theirs.reshape(4, _BINS, *theirs.shape[1:])
                mine.reshape(4, head.reg_max, *theirs.shape[1:])[:, :_BINS].copy_(edges)


def _fill(layer: Any, kernel: Tensor, bias: Tensor) -> None:
    """Fill a convolution with batch normalisation so that the normalisation only adds the bias."""
    with torch.no_grad():
        if layer.conv.weight.shape != kernel.shape:
            raise ValueError(f"a kernel is {tuple(kernel.shape)} and not {tuple(layer.conv.weight.shape)}")
        layer.conv.weight.copy_(kernel)
        layer.bn.running_mean.zero_()
        layer.bn.running_var.fill_(1)
        layer.bn.weight.fill_((1 + layer.bn.eps) ** 0.5)
        layer.bn.bias.copy_(bias)


def calibrate(network: Any, batches: Iterator[Tensor]) -> None:
    """Give batch normalisation the statistics of pictures, without a change of the network's answers.

    Training normalises by the statistics of each batch; without this step it would begin with another network.

    Args:
        network: The network.
        batches: `(batch, 3, height, width)` float32 in [0, 1]. More are more exact.
    """
    layers = [layer for layer in network.modules() if hasattr(layer, "conv") and hasattr(layer, "bn")]
    sums = {layer: (torch.zeros(layer.bn.num_features), torch.zeros(layer.bn.num_features)) for layer in layers}
    count = 0

    def add(layer: Any, output: Tensor) -> None:
        per_channel = output.detach().double().transpose(0, 1).flatten(1)
        sums[layer][0].add_(per_channel.mean(dim=1).float())
        sums[layer][1].add_(per_channel.square().mean(dim=1).float())

    hooks = [
        layer.conv.register_forward_hook(lambda _module, _inputs, output, layer=layer: add(layer, output))
        for layer in layers
    ]
    network.eval()
    with torch.no_grad():
        for batch in batches:
            network(batch)
            count += 1
    for hook in hooks:
        hook.remove()
    for layer, (total, squares) in sums.items():
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=_LEAST_VARIANCE)
        _renormalise(layer.bn, mean, variance)


def _renormalise(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Set the statistics of a normalisation and change its weights so that its output stays the same."""
    with torch.no_grad():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        offset = norm.bias - norm.running_mean * scale
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.bias.copy_(offset + mean * scale)

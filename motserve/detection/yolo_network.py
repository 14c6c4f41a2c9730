"""Builds a YOLO network from its description, which may come from a file of another origin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from motserve.errors import InvalidData

SHORT_HEAD: Final = "short_head"
"""Key of a description: boxes and scores are two convolutions after the features instead of three."""

_ACTIVATION: Final = re.compile(r"(torch\.)?nn\.[A-Za-z]\w*\([\d.,= \w]*\)")
_MODULE: Final = re.compile(r"(nn\.)?[A-Z]\w*")


def build_network(description: str | Mapping[str, Any], classes: int) -> Any:
    """Build a network with random weights.

    Ultralytics evaluates the activation as Python and calls any function named as a module; descriptions of other
    forms are therefore refused before.

    Args:
        description: Name of a network of Ultralytics such as `yolov8n.yaml`, or a description in its form: `backbone`
            and `head` list layers as `[from, number, module, arguments]`; with `short_head: true`, the detection head
            has one convolution less, and none of them is narrower than the features.
        classes: Number of classes.

    Returns:
        Ultralytics' `DetectionModel`.

    Raises:
        InvalidData: The description names something else than layers.
    """
    from torch import nn
    from ultralytics.nn import tasks

    build: Any = tasks.DetectionModel
    if isinstance(description, str):
        return build(description, nc=classes, verbose=False)
    description = deepcopy(dict(description))
    _refuse_code(description, tasks, nn)
    network = build(description, nc=classes, verbose=False)
    if description.get(SHORT_HEAD):
        _shorten_head(network)
    return network


def _shorten_head(network: Any) -> None:
    from torch import nn
    from ultralytics.nn.modules import Conv
    from ultralytics.utils.torch_utils import initialize_weights

    head = network.model[-1]
    for branch, outputs in ((head.cv2, 4 * head.reg_max), (head.cv3, head.nc)):
        for scale, (first, *_) in enumerate(branch):
            width = first.conv.in_channels
            branch[scale] = nn.Sequential(Conv(width, width, 3, act=first.act), nn.Conv2d(width, outputs, 1))
    initialize_weights(network)
    head.bias_init()


def _refuse_code(description: Mapping[str, Any], tasks: Any, nn: Any) -> None:
    activation = description.get("activation")
    if activation is not None and not (isinstance(activation, str) and _ACTIVATION.fullmatch(activation)):
        raise InvalidData(f"activation {activation!r} of a network is not one of torch.nn; use other weights")
    for layer in [*description.get("backbone", ()), *description.get("head", ())]:
        name = layer[2]
        layer_class = None
        if isinstance(name, str) and _MODULE.fullmatch(name):
            layer_class = getattr(nn if name.startswith("nn.") else tasks, name.removeprefix("nn."), None)
        if not (isinstance(layer_class, type) and issubclass(layer_class, nn.Module)):
            raise InvalidData(f"{name!r} of a network is not a layer; use other weights")

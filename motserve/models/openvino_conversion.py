"""Converts networks of PyTorch for OpenVINO."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from motserve.models.converted_networks import Graph
from motserve.models.libraries import import_openvino

_EXAMPLE: Final = (2, 64, 96, 3)
"""Shape of the pictures with which a network is traced; small, as each layer is run."""


def convert(module: torch.nn.Module, size: tuple[int, int] | None, facts: Mapping[str, Any]) -> Graph:
    """Convert a network of PyTorch for OpenVINO.

    Args:
        module: Takes `(n, height, width, 3)` uint8 and returns one tensor; on the CPU, in the mode for inference.
        size: Height and width of the pictures of a network that takes one size only; None for one that takes any.
        facts: See `Graph`.

    Raises:
        Exception: OpenVINO is not installed, or a layer cannot be converted.
    """
    openvino = import_openvino()
    shape = _EXAMPLE if size is None else (_EXAMPLE[0], *size, 3)
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of tracing, about shapes that become constants; the outputs are compared
        model = openvino.convert_model(module, example_input=torch.zeros(shape, dtype=torch.uint8))
        model.reshape([-1, *((-1, -1) if size is None else size), 3])
        path = Path(folder) / "network.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return Graph(path.read_bytes(), path.with_suffix(".bin").read_bytes(), facts)

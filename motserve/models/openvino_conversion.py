"""Converts networks of PyTorch for OpenVINO."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from motserve.models.converted_networks import Graph
from motserve.models.libraries import import_openvino


def convert(module: torch.nn.Module, example: tuple[int, int, int], any_size: bool, facts: Mapping[str, Any]) -> Graph:
    """Convert a network of PyTorch for OpenVINO.

    Args:
        module: Takes `(n, height, width, 3)` uint8 and returns one tensor; on the CPU, in the mode for inference.
        example: Number, height and width of the pictures with which the network is traced.
        any_size: Whether the network takes pictures of other sizes too.
        facts: See `Graph`.

    Raises:
        OSError: The folder of temporary files is full, or cannot be written.
        MemoryError: The memory does not suffice.
        Exception: OpenVINO is not installed, or a layer cannot be converted.
    """
    openvino = import_openvino()
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of tracing, about shapes that become constants; the outputs are compared
        model = openvino.convert_model(module, example_input=torch.zeros((*example, 3), dtype=torch.uint8))
        model.reshape([-1, *((-1, -1) if any_size else example[1:]), 3])
        path = Path(folder) / "network.xml"
        try:
            openvino.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:  # of its stream, for a full disk too
            raise OSError(f"the converted network cannot be written to {folder}: {error}") from error
        return Graph(path.read_bytes(), path.with_suffix(".bin").read_bytes(), facts)

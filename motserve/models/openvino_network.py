"""Runs a converted network by OpenVINO, and converts networks of PyTorch for it.

One stream on all cores answers soonest and is as fast as several for large batches. Single precision is asked for:
OpenVINO would use bfloat16 where the processor has it, and boxes would move by pixels.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from motserve.models.converted_networks import Graph
from motserve.models.libraries import import_openvino
from motserve.types import FloatArray

_OPTIONS: Final = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
_EXAMPLE: Final = (2, 64, 96, 3)
"""Shape of the pictures with which a network is traced; small, as each layer is run."""


class OpenVinoNetwork:
    """A network that takes pictures and returns one array. Not safe for concurrent calls: one thread at a time.

    Args:
        graph: The converted network.

    Attributes:
        threads: Number of threads; None for OpenVINO's choice, one for each core.

    Raises:
        Exception: OpenVINO is not installed, or cannot run the network.
    """

    def __init__(self, graph: Graph) -> None:
        core = import_openvino().Core()
        self.threads = _limited_threads()
        options: dict[str, Any] = dict(_OPTIONS)
        if self.threads is not None:
            options["INFERENCE_NUM_THREADS"] = self.threads
        compiled = core.compile_model(core.read_model(graph.graph, graph.arrays), "CPU", options)
        self._request = compiled.create_infer_request()

    def __call__(self, pictures: NDArray[np.uint8]) -> FloatArray:
        """Run the network.

        Args:
            pictures: `(n, height, width, 3)` uint8 BGR of any size that the network takes.

        Returns:
            Its output, `(n, …)` float32, in memory of its own.
        """
        # arrays from shared memory are read-only, which tensors do not support
        pixels = np.require(pictures, np.uint8, ["C", "W"])
        output: FloatArray = self._request.infer([pixels], share_inputs=True)[0]
        return output


def convert(module: torch.nn.Module, size: tuple[int, int] | None = None) -> Graph:
    """Convert a network of PyTorch for OpenVINO.

    Args:
        module: Takes `(n, height, width, 3)` uint8 and returns one tensor; on the CPU, in the mode for inference.
        size: Height and width of the pictures of a network that takes one size only; None for one that takes any.

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
        return Graph(path.read_bytes(), path.with_suffix(".bin").read_bytes())


def _limited_threads() -> int | None:
    """Return the number of threads that PyTorch is limited to, as by `serving.detector.threads`; None for no limit."""
    threads = torch.get_num_threads()
    return threads if threads < (os.cpu_count() or 1) else None

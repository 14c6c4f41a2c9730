"""Runs a converted network by OpenVINO. PyTorch is not loaded.

One stream on all cores answers soonest and is as fast as several for large batches. Single precision is asked for:
OpenVINO would use bfloat16 where the processor has it, and boxes would move by pixels.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from motserve.models.converted_networks import Graph
from motserve.models.libraries import import_openvino
from motserve.types import FloatArray

_OPTIONS: Final = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}

_LOCK: Final = threading.Lock()
_CORES: Final[list[Any]] = []


class OpenVinoNetwork:
    """A network that takes pictures and returns one array. Not safe for concurrent calls: one thread at a time.

    Args:
        graph: The converted network.

    Attributes:
        facts: See `Graph`.
        threads: Number of threads; None for OpenVINO's choice, one for each core.

    Raises:
        Exception: OpenVINO is not installed, or cannot run the network.
    """

    def __init__(self, graph: Graph) -> None:
        core = _core_of_process()
        self.facts = graph.facts
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


def _core_of_process() -> Any:
    """Return OpenVINO's core, one for the whole process, which is never freed.

    It sets the memory on which the first thread that compiles a network handles signals. A core that another thread
    freed would free that memory too, and the next signal would end the process.
    """
    with _LOCK:
        if not _CORES:
            _CORES.append(import_openvino().Core())
        return _CORES[0]


def _limited_threads() -> int | None:
    """Return the number of threads to which libraries are limited, as by `serving.detector.threads`; None for no limit.

    It stands in a variable of the environment that PyTorch reads too.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isascii() and threads.isdecimal() and 0 < int(threads) < (os.cpu_count() or 1):
        return int(threads)
    return None

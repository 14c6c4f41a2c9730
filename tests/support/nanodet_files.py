"""Random weights in the form in which NanoDet-g is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from motserve.types import FloatArray


def nanodet_weights() -> dict[str, FloatArray]:
    """Random weights with the names and shapes of the published ones."""
    rng = np.random.default_rng(3)
    inputs = [
        3,
        32,
        32,
        16,
        32,
        64,
        64,
        32,
        64,
        32,
        64,
        128,
        128,
        64,
        128,
        64,
        128,
        256,
        256,
        128,
        256,
        128,
        256,
        128,
        256,
    ]
    outputs = [
        32,
        32,
        16,
        16,
        32,
        64,
        32,
        32,
        32,
        32,
        64,
        128,
        64,
        64,
        64,
        64,
        128,
        256,
        128,
        128,
        128,
        128,
        128,
        128,
        256,
    ]
    shapes = {f"split_{i}" if i else "split": (3, 3, *pair) for i, pair in enumerate(zip(inputs, outputs, strict=True))}
    biases = {f"unknown_{2 * i}": width for i, width in enumerate(outputs)}
    shapes |= {"split_25": (1, 1, 128, 128), "split_26": (1, 1, 256, 128), "split_27": (1, 1, 512, 128)}
    biases |= {"unknown_50": 128, "unknown_52": 128, "unknown_54": 128}
    for scale, (features, last) in enumerate(((60, 62), (66, 68), (70, 72))):
        shapes |= {f"split_{28 + 2 * scale}": (3, 3, 128, 128), f"split_{29 + 2 * scale}": (1, 1, 128, 124)}
        biases |= {f"unknown_{features}": 128, f"unknown_{last}": 124}
    kernels = {
        f"PartitionedCall/{name}": rng.normal(0, (1.8 / np.prod(shape[:3])) ** 0.5, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    return kernels | {name: rng.normal(0, 0.1, width).astype(np.float32) for name, width in biases.items()}


def write_tfjs(folder: Path, weights: dict[str, Any]) -> Path:
    """Write a graph model of TensorFlow.js with the weights, and return its file."""
    entries, content = [], b""
    for name, values in {"PartitionedCall/Where": np.zeros(3, np.int32), **weights}.items():
        is_float = values.dtype == np.float32
        stored = values.astype(np.float16) if is_float else values
        entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "dtype": "float32" if is_float else "int32"}
        entries.append(entry | ({"quantization": {"dtype": "float16"}} if is_float else {}))
        content += stored.tobytes()
    (folder / "nanodet.bin").write_bytes(content)
    file = folder / "nanodet.json"
    file.write_bytes(orjson.dumps({"weightsManifest": [{"paths": ["nanodet.bin"], "weights": entries}]}))
    return file

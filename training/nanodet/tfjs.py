"""Reads the weights of a TensorFlow.js graph model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import orjson

from motserve.errors import InvalidData, NotFound
from motserve.types import FloatArray


def read_tfjs(file: Path) -> dict[str, FloatArray]:
    """Return the floating point weights of a graph model by name.

    Args:
        file: The `.json`; the binary files that it names are beside it.

    Raises:
        NotFound: A file is missing.
        InvalidData: A file is not a graph model or too short.
    """
    weights: dict[str, FloatArray] = {}
    try:
        for group in orjson.loads(file.read_bytes())["weightsManifest"]:
            content = b"".join((file.parent / Path(name).name).read_bytes() for name in group["paths"])
            start = 0
            for entry in group["weights"]:
                stored = np.dtype(entry.get("quantization", entry)["dtype"])
                count = math.prod(entry["shape"])
                if entry["dtype"] == "float32":
                    values = np.frombuffer(content, stored, count, start)
                    weights[entry["name"]] = values.astype(np.float32).reshape(entry["shape"])
                start += count * stored.itemsize
    except FileNotFoundError as error:
        raise NotFound(f"{error.filename} does not exist; both files of the model are needed") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidData(f"{file} is not a graph model of TensorFlow.js ({type(error).__name__}: {error})") from error
    return weights

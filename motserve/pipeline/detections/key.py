"""What detections and embeddings depend on besides the pictures: the keys of caches."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import motserve
from motserve.config import DetectorConfig
from motserve.detection.backend import expected_backend
from motserve.detection.families import identify_family
from motserve.models.provenance import describe_files
from motserve.models.weights import Weights

_LIBRARIES: Final = (
    "torch", "torchvision", "ultralytics", "openvino", "onnxruntime", "transformers", "effdet", "timm",
)  # fmt: skip
_PICTURE_LIBRARIES: Final = ("av", "opencv-python", "opencv-python-headless")
_NOT_IN_KEY: Final = {"weights", "every"}
"""The checksum stands for the weights; a frame has the same detections whichever frames are skipped."""

# the version number stays the same while the code changes, so the code itself is part of a key
_CODE: Final = (
    "detection", "video", "models/libraries.py", "models/device.py", "models/backend.py",
    "models/openvino_conversion.py", "models/openvino_network.py", "types.py",
)  # fmt: skip
_NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")


def detection_key(config: DetectorConfig, weights: Weights, folder: Path, code: Iterable[str] = ()) -> dict[str, Any]:
    """Return everything that detections depend on, besides the pictures, as a JSON document.

    Args:
        config: The detector's configuration.
        weights: The detector's weights.
        folder: `cache_dir`, with the networks that were converted for another backend, or could not be.
        code: Modules of the caller that the detections depend on too, relative to the package.
    """
    return {
        "weights": weights.sha256,
        **config.model_dump(mode="json", exclude=_NOT_IN_KEY),
        "backend": expected_backend(config, weights, folder),
        "family": asdict(identify_family(config, weights)),  # it may depend on the name
        **environment_key((*_CODE, *code), _LIBRARIES),
    }


def environment_key(code: tuple[str, ...], libraries: tuple[str, ...]) -> dict[str, Any]:
    """Return the code, the libraries and the kind of machine behind numbers that are computed from pictures.

    Args:
        code: Modules and packages of motserve, relative to the package.
        libraries: Distributions, besides those that decode pictures; those that are not installed are left out.
    """
    versions = {}
    for name in (*libraries, *_PICTURE_LIBRARIES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    # without the driver, or a GPU that is visible, device `auto` is the CPU; to ask torch would take seconds
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "all") if _NVIDIA_DRIVER.exists() else None
    return {
        "code": _code_checksum(code),
        "libraries": versions,
        "machine": platform.machine(),
        "gpus": gpus,
    }


@cache
def _code_checksum(paths: tuple[str, ...]) -> str:
    """Return the checksum of some of motserve's own modules and packages."""
    package = Path(motserve.__file__).parent
    modules = [package / path for path in paths if path.endswith(".py")]
    packages = [package / path for path in paths if not path.endswith(".py")]
    files = [*modules, *(file for folder in packages for file in folder.rglob("*.py"))]
    return str(describe_files(files, package)["sha256"])

"""States which library runs a detector, without loading it: for the keys of cached detections."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from motserve.config import DetectorConfig
from motserve.detection.families import identify_family
from motserve.models.backend import OPENVINO, TORCH, runs_on_openvino
from motserve.models.weights import Weights

CONVERTED_SETTINGS: Final[dict[str, object]] = {}
"""Settings that a converted network depends on; it takes pictures of any size."""

_LOADED_BY_TORCH: Final = (".pt", ".safetensors")


def expected_backend(config: DetectorConfig, weights: Weights, folder: Path | None) -> str:
    """Return the `backend` that a detector will have, unless converting its network fails the first time.

    Args:
        config: Backend and device.
        weights: The detector's weights.
        folder: `cache_dir`, with the converted networks; None if there is none.

    Returns:
        `torch`, `openvino`, or nothing for exported formats.
    """
    if identify_family(config, weights).family != "ultralytics":
        return TORCH
    if weights.path.suffix not in _LOADED_BY_TORCH:
        return ""
    return OPENVINO if runs_on_openvino("detector", config, weights, CONVERTED_SETTINGS, folder) else TORCH

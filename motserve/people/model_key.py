"""The key of embeddings that can be compared with each other."""

from __future__ import annotations

from collections.abc import Mapping

from motserve.config import ReIDConfig


def model_key(weights: Mapping[str, str], config: ReIDConfig) -> str:
    """Return the key that all comparable embeddings share: the weights and the input format of crops.

    Args:
        weights: Description of the weights, with their checksum as `sha256`.
        config: Size and input of crops.

    >>> model_key({"name": "a.onnx", "sha256": "5e88"}, ReIDConfig())
    '5e88/256x128/imagenet'
    """
    return f"{weights['sha256']}/{config.crop_height}x{config.crop_width}/{config.onnx_input}"

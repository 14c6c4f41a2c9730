"""Person re-identification: embedders, the gallery of embeddings, and the identity linker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from motserve.config import ReIDConfig
from motserve.models.weights import Weights

if TYPE_CHECKING:
    from motserve.reid.embedder import CropEmbedder

__all__ = ["build_embedder"]


def build_embedder(config: ReIDConfig, weights: Weights, folder: Path | None = None) -> CropEmbedder:
    """Return the embedder for a configuration, its network loaded and on its device.

    The implementations are imported here and not with the package, so that a session, which only links identities,
    does not load torch.

    Args:
        config: The configuration.
        weights: The weights.
        folder: `cache_dir`, where networks that were converted for `reid.backend` are stored; None to store none.

    Raises:
        InvalidConfig: The device does not exist, or the network does not support the feature, the crop size or the
            backend.
        WeightsUnavailable: The file is not an embedder.
    """
    if weights.path.suffix == ".onnx":
        from motserve.reid.onnx_embedder import OnnxEmbedder

        return OnnxEmbedder(config, weights)
    from motserve.reid.openvino_embedder import load_converted

    if (converted := load_converted(config, weights, folder)) is not None:
        return converted
    from motserve.reid.native_embedder import build_native_embedder

    return build_native_embedder(config, weights, folder)

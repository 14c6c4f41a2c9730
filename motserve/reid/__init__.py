"""Person re-identification: embedders, the gallery of remembered people, and the linker of identities."""

from motserve.base import ReIDBase
from motserve.config import ReIDConfig
from motserve.weights import Weights

__all__ = ["build_embedder"]


def build_embedder(config: ReIDConfig, weights: Weights) -> ReIDBase:
    """Return the embedder for a configuration, its network loaded and on its device.

    The implementations are imported here and not with the package, so that a session, which only links identities,
    does not load torch.
    """
    if weights.path.suffix == ".onnx":
        from motserve.reid.onnx_embedder import OnnxEmbedder

        return OnnxEmbedder(config, weights)
    from motserve.reid.torch_embedder import TorchEmbedder

    return TorchEmbedder(config, weights)

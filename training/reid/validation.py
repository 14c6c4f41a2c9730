"""Scores a network during training on the held-out people."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from motserve.lab.evaluation.reid_data import CropTable, read_crops
from motserve.lab.evaluation.retrieval import RetrievalScores, cosine_rows, score_retrieval
from motserve.reid.network import EmbedderNetwork
from motserve.types import FloatArray
from training.reid.config import CropConfig
from training.reid.crops import Normaliser


def validate(
    network: EmbedderNetwork, table: CropTable, crops: CropConfig, batch: int, normalise: Normaliser
) -> RetrievalScores:
    """Score cross-camera retrieval.

    Every crop is a query; its gallery is all crops except those of its person from its camera.

    Args:
        network: The network; its training mode is restored afterwards.
        table: The crops, with at least one person in crops of two cameras.
        crops: Their size.
        batch: Crops per pass of the network, and queries compared at a time.
        normalise: Moves crops to the network's device and normalises them.

    Raises:
        InvalidData: A crop cannot be read, or embeddings are not finite.
    """
    was_training = network.training
    network.eval()
    embeddings = _embed(network, table, crops, batch, normalise)
    network.train(was_training)
    return score_retrieval(cosine_rows(embeddings, embeddings, batch), table, table)


@torch.inference_mode()
def _embed(
    network: EmbedderNetwork, table: CropTable, crops: CropConfig, batch: int, normalise: Normaliser
) -> FloatArray:
    """Return `(n, dimension)` float32, of unit length."""
    parts = []
    for start in range(0, len(table), batch):
        pixels = read_crops(table.paths[start : start + batch], crops.height, crops.width)
        pictures = normalise(torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2))))
        parts.append(functional.normalize(network(pictures)).cpu().numpy())
    return np.concatenate(parts)

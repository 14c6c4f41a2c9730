"""Losses of an embedder: cross-entropy after the BNNeck, triplet loss before it (Luo et al., CVPRW 2019)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import nn
from torch.nn import functional

from motserve.reid.network import EmbedderNetwork
from training.reid.config import LossConfig

_STEEPNESS = 10.0
"""Steepness of the softplus of the threshold loss, per unit of cosine distance."""

_CLASSIFIER_DEVIATION = 0.001  # of Luo et al.


class Learned(NamedTuple):
    """Outputs of the learner for a batch.

    Attributes:
        features: `(b, dimension)` before the batch norm.
        embeddings: `(b, dimension)` after it, not of unit length.
        logits: `(b, classes)`.
        spread: Mean squared distance of the features to the centres of their classes; None without centres.
    """

    features: torch.Tensor
    embeddings: torch.Tensor
    logits: torch.Tensor
    spread: torch.Tensor | None


class Losses(NamedTuple):
    """Losses of a batch, each without its weight, and their weighted sum.

    Attributes:
        identity: Cross-entropy.
        triplet: Batch-hard triplet loss.
        centre: Centre loss; 0 without centres.
        contrastive: Supervised contrastive loss; 0 without a weight.
        threshold: Threshold loss of the hardest pairs; 0 without a weight.
        total: Weighted sum, which is minimised.
    """

    identity: torch.Tensor
    triplet: torch.Tensor
    centre: torch.Tensor
    contrastive: torch.Tensor
    threshold: torch.Tensor
    total: torch.Tensor


class Learner(nn.Module):
    """An embedder with classifier and centres, in one module so that workers synchronise all of it.

    Args:
        network: The embedder.
        classes: Number of training people.
        centres: Whether to use a centre loss (Wen et al., ECCV 2016).
        scale: Scale of a cosine classifier; None for a linear classifier.

    Attributes:
        network: The embedder, the only part of the result.
        classifier: Linear without bias, after the batch norm.
        centres: `(classes, dimension)`, or None.
    """

    def __init__(self, network: EmbedderNetwork, classes: int, centres: bool, scale: float | None = None) -> None:
        super().__init__()
        self.network = network
        self.classifier = nn.Linear(network.dimension, classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=_CLASSIFIER_DEVIATION if scale is None else 1.0)
        self.scale = scale
        self.centres = nn.Parameter(torch.randn(classes, network.dimension)) if centres else None

    def forward(self, pictures: torch.Tensor, labels: torch.Tensor) -> Learned:
        """Run the network on a batch.

        Args:
            pictures: `(b, 3, height, width)` float, normalised.
            labels: `(b,)` int64.
        """
        features = self.network.features(pictures)
        embeddings = self.network.norm(features)
        if self.scale is None:
            logits = self.classifier(embeddings)
        else:
            cosines = functional.linear(functional.normalize(embeddings), functional.normalize(self.classifier.weight))
            logits = self.scale * cosines
        spread = None
        if self.centres is not None:
            spread = (features.float() - self.centres[labels]).square().sum(dim=1).mean()
        return Learned(features.float(), embeddings.float(), logits.float(), spread)


class Criterion:
    """The losses of a batch.

    The hardest positive and the hardest negative of a crop are mined among the crops of this worker only: with more
    workers and the same batch, negatives are less hard.

    Args:
        settings: Weights and margin.
    """

    def __init__(self, settings: LossConfig) -> None:
        self._settings = settings
        euclidean = LpDistance(normalize_embeddings=False)
        self._miner = BatchHardMiner(distance=euclidean)
        self._triplet = TripletMarginLoss(settings.margin, distance=euclidean, reducer=MeanReducer())
        self._contrastive = SupConLoss(settings.temperature)

    def __call__(self, learned: Learned, labels: torch.Tensor) -> Losses:
        """Return the losses; call it outside of autocast.

        Args:
            learned: Outputs of the learner for the batch.
            labels: `(b,)` int64, of at least two people.
        """
        settings = self._settings
        identity = functional.cross_entropy(learned.logits, labels, label_smoothing=settings.label_smoothing)
        triplet = self._triplet(learned.features, labels, self._miner(learned.features, labels))
        centre = torch.zeros_like(identity) if learned.spread is None else learned.spread
        contrastive = threshold = torch.zeros_like(identity)
        if settings.contrastive_weight:
            contrastive = self._contrastive(learned.embeddings, labels)
        if settings.threshold_weight:
            threshold = threshold_loss(learned.embeddings, labels, settings.threshold, settings.threshold_gap)
        total = identity + settings.triplet_weight * triplet + settings.centre_weight * centre
        total = total + settings.contrastive_weight * contrastive + settings.threshold_weight * threshold
        return Losses(identity, triplet, centre, contrastive, threshold, total)


def threshold_loss(embeddings: torch.Tensor, labels: torch.Tensor, distance: float, gap: float) -> torch.Tensor:
    """Push the farthest crop of the same person below a distance and the nearest of another person above it.

    Args:
        embeddings: `(b, dimension)`.
        labels: `(b,)` int64, of at least two people.
        distance: Cosine distance below which two crops count as the same person.
        gap: Margin on each side.

    Returns:
        The mean of both, a softplus hinge, in cosine distance.
    """
    unit = functional.normalize(embeddings)
    distances = 1 - unit @ unit.T
    same = labels[:, None] == labels[None, :]
    farthest = distances.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
    too_far = functional.softplus(farthest - distance + gap, beta=_STEEPNESS)
    too_near = functional.softplus(distance + gap - nearest, beta=_STEEPNESS)
    return (too_far + too_near).mean()

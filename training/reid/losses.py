"""What an embedder learns by: cross-entropy behind the BNNeck, triplet loss before it (Luo et al., CVPRW 2019)."""

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
"""How sharply the threshold loss turns on, per unit of cosine distance."""

_CLASSIFIER_DEVIATION = 0.001  # of Luo et al.


class Learned(NamedTuple):
    """What the losses need of a batch.

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
        threshold: How far the hardest pairs are from their side of the distance that decides; 0 without a weight.
        total: What is minimised.
    """

    identity: torch.Tensor
    triplet: torch.Tensor
    centre: torch.Tensor
    contrastive: torch.Tensor
    threshold: torch.Tensor
    total: torch.Tensor


class Learner(nn.Module):
    """An embedder with everything that learns beside it, in one module so that workers keep all of it the same.

    Args:
        network: The embedder.
        classes: People to tell apart.
        centres: Whether each has a centre (Wen et al., ECCV 2016).
        scale: Of a classifier that compares directions alone; None for a linear one.

    Attributes:
        network: The embedder; only this is kept in the end.
        classifier: Linear without bias, on what comes out of the batch norm.
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
        """Look at a batch.

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

    The hardest positive and the hardest negative of a crop are looked for among those that this worker has, not among
    those of all workers: with more workers and the same batch, negatives are less hard.

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
            learned: What the learner says of the batch.
            labels: `(b,)` int64, of two people at the least.
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
    """Push the farthest of the same person and the nearest of another to their side of a distance.

    Args:
        embeddings: `(b, dimension)`.
        labels: `(b,)` int64, of two people at the least.
        distance: Cosine distance below which two crops count as the same person.
        gap: How far from it they are pushed.

    Returns:
        The mean of both, a softened hinge, in cosine distance.
    """
    unit = functional.normalize(embeddings)
    distances = 1 - unit @ unit.T
    same = labels[:, None] == labels[None, :]
    farthest = distances.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
    too_far = functional.softplus(farthest - distance + gap, beta=_STEEPNESS)
    too_near = functional.softplus(distance + gap - nearest, beta=_STEEPNESS)
    return (too_far + too_near).mean()

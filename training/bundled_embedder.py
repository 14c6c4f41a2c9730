"""Trains the bundled embedder: a small network that tells rendered people apart."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from motserve.reid.network import EmbedderNetwork
from motserve.reid.normalise import IMAGENET_MEAN, IMAGENET_STD
from motserve.types import FloatArray
from training.bundled_config import BundledConfig, EmbedderTraining
from training.bundled_crops import Crops, render_crops
from training.bundled_metrics import Retrieval, measure_pairs
from training.halved import halved

logger = logging.getLogger("motserve.training.bundled")

STEEPNESS = 10.0
"""How sharply the threshold loss turns on, per unit of cosine distance."""

MOMENTUM = 0.1
"""Of the batch norms: torchvision's 0.01 for MobileNet is for trainings a hundred times longer."""

REPORT_STEPS = 100
SETTLING_BATCHES = 24


def train_embedder(config: BundledConfig, output: Path) -> Path:
    """Render the crops, train, measure and write `embedder.safetensors`.

    Args:
        config: Everything that matters.
        output: Folder for the result.

    Returns:
        The weights, half precision, with architecture, crop size and metrics in the metadata.
    """
    settings = config.embedder
    torch.manual_seed(config.seed)
    torch.set_num_threads(settings.threads)
    train = render_crops(settings, 2 * config.seed, settings.train_identities, output / "train.npz")
    validation = render_crops(settings, 2 * config.seed + 1, settings.validation_identities, output / "validation.npz")
    logger.info("rendered %d and %d people", len(train.pixels), len(validation.pixels))
    # Channels last makes the depthwise convolutions of a MobileNet a third faster on a CPU.
    network = EmbedderNetwork(settings.backbone, settings.dimension).to(memory_format=torch.channels_last)
    for module in network.trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = MOMENTUM
    classes = nn.Parameter(torch.randn(settings.train_identities, settings.dimension))
    parameters = [p for p in (*network.parameters(), classes) if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(settings, step))
    rng = np.random.default_rng([config.seed, 2])
    weights = output / "embedder.safetensors"
    network.train()
    last = settings.half_size_steps + settings.steps
    for step in range(1, last + 1):
        pixels, labels = _batch(train, settings, rng)
        crops = _augment(pixels, settings, rng)
        if step <= settings.half_size_steps:
            crops = functional.avg_pool2d(crops, 2)
        features = network.features(crops)
        embeddings = network.norm(features)
        cosines = functional.normalize(embeddings) @ functional.normalize(classes).T
        identity = functional.cross_entropy(
            settings.logit_scale * cosines, labels, label_smoothing=settings.label_smoothing
        )
        pairs = _triplet(features, labels, settings.margin)
        pairs = pairs + settings.threshold_weight * _threshold(embeddings, labels, settings)
        loss = identity + min(1.0, step / max(settings.ramp_steps, 1)) * pairs
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % REPORT_STEPS == 0:
            logger.info("step %d: identity loss %.3f, pair losses %.3f", step, identity.item(), pairs.item())
        if step in (settings.half_size_steps + settings.steps // 2, last):
            settle(network, train, settings, rng)
            measured = evaluate(network, validation, settings)
            save_embedder(network, weights, config, measured)
            logger.info("step %d: %s", step, measured)
            network.train()
    return weights


@torch.no_grad()
def settle(network: EmbedderNetwork, crops: Crops, settings: EmbedderTraining, rng: np.random.Generator) -> None:
    """Measure the batch norms' statistics anew on crops without augmentation, which is what the network will see."""
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    network.train()
    for _ in range(SETTLING_BATCHES):
        pixels, _ = _batch(crops, settings, rng)
        network(_normalised(torch.from_numpy(pixels)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def evaluate(network: EmbedderNetwork, crops: Crops, settings: EmbedderTraining) -> Retrieval:
    """Measure how well a network tells people apart that it was not trained on."""
    identities, views = crops.pictures.shape
    embeddings = embed(network, crops.pixels.reshape(-1, *crops.pixels.shape[2:]))
    return measure_pairs(embeddings, np.repeat(np.arange(identities), views), settings.distance)


@torch.inference_mode()
def embed(network: EmbedderNetwork, pixels: NDArray[np.uint8], batch: int = 64) -> FloatArray:
    """Return unit embeddings `(n, dimension)` of crops `(n, height, width, 3)` uint8 BGR."""
    network.eval()
    parts = [
        functional.normalize(network(_normalised(torch.from_numpy(pixels[start : start + batch]))))
        for start in range(0, len(pixels), batch)
    ]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def save_embedder(network: EmbedderNetwork, path: Path, config: BundledConfig, measured: Retrieval) -> None:
    """Write a network in half precision; the file appears whole or not at all."""
    settings = config.embedder
    metadata = {
        "backbone": settings.backbone,
        "dimension": str(settings.dimension),
        "crop_height": str(settings.crop_height),
        "crop_width": str(settings.crop_width),
        "command": "python -m training.bundled embedder",
        "seed": str(config.seed),
        "metrics": json.dumps(measured.as_dict()),
    }
    part = path.with_suffix(".part")
    save_file(halved(network), part, metadata)
    part.replace(path)


def _rate(settings: EmbedderTraining, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    return 0.5 * (1 + math.cos(math.pi * step / (settings.half_size_steps + settings.steps)))


def _batch(
    crops: Crops, settings: EmbedderTraining, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], torch.Tensor]:
    """Draw P people and K views of each."""
    people = rng.permutation(len(crops.pixels))[: settings.identities_per_batch]
    rows = np.repeat(people, settings.views_per_identity)
    views = [rng.permutation(crops.pixels.shape[1])[: settings.views_per_identity] for _ in people]
    return crops.pixels[rows, np.concatenate(views)], torch.from_numpy(rows)


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, deviation = (torch.from_numpy(255 * values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = (pixels.permute(0, 3, 1, 2).flip(1).float() - mean) / deviation
    return normalised.contiguous(memory_format=torch.channels_last)


def _augment(pixels: NDArray[np.uint8], settings: EmbedderTraining, rng: np.random.Generator) -> torch.Tensor:
    """Flip, change brightness, contrast and colour a little, and erase a rectangle (Zhong et al., AAAI 2020)."""
    pictures = _normalised(torch.from_numpy(pixels))
    count, _, height, width = pictures.shape
    flipped = torch.from_numpy(rng.random(count) < 0.5)
    pictures[flipped] = pictures[flipped].flip(3)
    gain = torch.from_numpy(rng.uniform(0.88, 1.12, (count, 1, 1, 1)) * rng.uniform(0.96, 1.04, (count, 3, 1, 1)))
    pictures = pictures * gain.float() + torch.from_numpy(rng.uniform(-0.15, 0.15, (count, 1, 1, 1))).float()
    for index in np.flatnonzero(rng.random(count) < settings.erasing):
        area, ratio = rng.uniform(0.03, 0.3) * height * width, math.exp(rng.uniform(-1.2, 1.2))
        tall, wide = min(height, round(math.sqrt(area * ratio))), min(width, round(math.sqrt(area / ratio)))
        top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
        pictures[index, :, top : top + tall, left : left + wide] = float(rng.normal())
    return pictures


def _triplet(features: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """Batch-hard triplet loss on Euclidean distances (Hermans et al., 2017)."""
    farthest, nearest = _hardest(torch.cdist(features, features), labels)
    return functional.relu(farthest - nearest + margin).mean()


def _threshold(embeddings: torch.Tensor, labels: torch.Tensor, settings: EmbedderTraining) -> torch.Tensor:
    """Push the hardest pairs to their side of the distance at which the service decides.

    Cross-entropy and triplet loss only order distances; they leave open at which distance "the same" ends.
    """
    unit = functional.normalize(embeddings)
    farthest, nearest = _hardest(1 - unit @ unit.T, labels)
    low, high = settings.distance - settings.threshold_gap, settings.distance + settings.threshold_gap
    same = functional.softplus(STEEPNESS * (farthest - low))
    other = functional.softplus(STEEPNESS * (high - nearest))
    return (same + other).mean() / STEEPNESS


def _hardest(distances: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each row the farthest of its own identity and the nearest of another."""
    same = labels[:, None] == labels[None, :]
    farthest = distances.masked_fill(~same, -math.inf).amax(dim=1)
    nearest = distances.masked_fill(same, math.inf).amin(dim=1)
    return farthest, nearest

"""Writes the result of a training: weights, card with scores, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from motserve.config import Config, change_config
from motserve.lab.experiments.cache import open_cache
from motserve.lab.experiments.crops import embed_crops, load_crops
from motserve.lab.experiments.measure import measure_embedder
from motserve.lab.experiments.models import Models
from motserve.models.checksums import checksum
from motserve.models.registry.card import Card, write_card
from training.job_config import write_settings
from training.reid.config import ReidTrainingConfig
from training.reid.data import MeasuredSet
from training.reid.figures import draw_pictures
from training.reid.network import save_network

WEIGHTS: Final = "embedder.safetensors"


def write_result(
    network: Mapping[str, torch.Tensor],
    settings: ReidTrainingConfig,
    tests: Sequence[MeasuredSet],
    training: Mapping[str, Any],
    model: Path,
    beside: Path,
    device: str,
) -> dict[str, float]:
    """Write the weights, score this file on every test, and draw figures of the first.

    Args:
        network: State of the embedder.
        settings: The settings.
        tests: The test sets.
        training: Description of the training for the card.
        model: Empty folder for weights and card.
        beside: Folder for `settings.yaml`, `pictures/`, and temporary embeddings.
        device: Device of the scoring.

    Returns:
        The scores in per cent, such as `test/mAP`.

    Raises:
        MotserveError: A test cannot be read or none of its queries can be scored.
    """
    weights = model / WEIGHTS
    save_network(network, settings.network, settings.crops, weights)
    config = _service(settings, weights, beside / "cache", device)
    scores = [measure_embedder(config, test.root, test.protocol, people=test.people) for test in tests]
    card = Card("reid", WEIGHTS, checksum(weights), settings.network.backbone, training, tuple(scores))
    write_card(model, card)
    write_settings(settings, beside / "settings.yaml")
    _draw(config, tests[0], settings, beside / "pictures")
    return {
        f"{test.name}/{name}": value
        for test, one in zip(tests, scores, strict=True)
        for name, value in one.metrics.items()
    }


def _service(settings: ReidTrainingConfig, weights: Path, cache: Path, device: str) -> Config:
    """Return the configuration that a service would use for the embedder, independent of the user's."""
    reid = {
        "weights": [str(weights)],
        "device": device,
        "crop_height": settings.crops.height,
        "crop_width": settings.crops.width,
        "batch_size": settings.validation.batch_size,
    }
    return change_config(Config(), {"reid": reid, "cache_dir": cache})


def _draw(config: Config, test: MeasuredSet, settings: ReidTrainingConfig, folder: Path) -> None:
    crops = load_crops(test.root, test.protocol, test.people)
    models, cache = Models(config), open_cache(config)  # these embeddings are cached from the scoring
    query, gallery = (
        embed_crops(table, crops.data[part]["sha256"], models, cache, part)
        for part, table in (("query", crops.query), ("gallery", crops.gallery))
    )
    draw_pictures(query, gallery, crops, settings.pictures, config.evaluation.query_batch, folder)

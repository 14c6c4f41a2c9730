"""Trains AFLink on the ground truth of tracking: `python -m training.linker --gt FOLDER --config FILE`."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits

from motserve.config.paths import local_path
from motserve.errors import InvalidData
from motserve.files.atomic import replacing
from motserve.lab.evaluation.sequences import find_truth
from motserve.postprocessing.aflink import AFLink, Shape
from training.exit_code import exit_code
from training.half_precision import half_precision
from training.linker.config import LinkerTraining, load_linker_config
from training.linker.pairs import Pairs, collect_pairs, varied

logger = logging.getLogger("motserve.training.linker")

_COMMAND = "python -m training.linker --gt FOLDER --config configs/training/linker.yaml"
_THRESHOLDS = (0.5, 0.8, 0.9, 0.95)


def train_linker(gt: Path, settings: LinkerTraining, target: Path) -> dict[str, float]:
    """Train the network and write its weights.

    Args:
        gt: Folder of ground truth.
        settings: The settings.
        target: File for the weights; its metadata hold the metrics.

    Returns:
        The metrics on the validation sequences, if any.

    Raises:
        NotFound: A sequence is missing.
        InvalidData: The ground truth is malformed or has too few people.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    rng = np.random.default_rng(settings.seed)
    shape = Shape(settings.span_s, settings.points, settings.channels)
    validation = find_truth(gt, settings.validation) if settings.validation else {}
    training = {name: one for name, one in find_truth(gt, settings.sequences).items() if name not in validation}
    if not training:
        raise InvalidData(f"{gt}: there are no training sequences besides those for validation")
    pairs = collect_pairs(list(training.values()), settings.runs, settings, shape, rng)
    logger.info("%d pairs, %d of the same person", len(pairs.same), int(pairs.same.sum()))
    network = AFLink(shape, settings.dropout)
    _fit(network, pairs, settings, rng)
    metrics: dict[str, float] = {}
    if validation:
        metrics = _measure(
            network, collect_pairs(list(validation.values()), settings.validation_runs, settings, shape, rng)
        )
        logger.info("measured: %s", metrics)
    metadata = {
        "shape": asdict(shape),
        "command": _COMMAND,
        "seed": settings.seed,
        "metrics": metrics,
        "learned": sorted(training),
        "settings": settings.model_dump(mode="json"),
    }
    with replacing(target) as partial:
        save_file(
            half_precision(network.state_dict()), partial, {key: json.dumps(value) for key, value in metadata.items()}
        )
    return metrics


def _fit(network: AFLink, pairs: Pairs, settings: LinkerTraining, rng: np.random.Generator) -> None:
    batches = -(-len(pairs.same) // settings.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.epochs * batches)
    network.train()
    for epoch in range(settings.epochs):
        started, total = time.monotonic(), 0.0
        for rows in np.array_split(rng.permutation(len(pairs.same)), batches):
            inputs, same = (
                torch.from_numpy(varied(pairs.inputs[rows], settings, rng)),
                torch.from_numpy(pairs.same[rows]),
            )
            loss = binary_cross_entropy_with_logits(network(inputs), same)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        logger.info("epoch %d: loss %.4f, %.1f s", epoch + 1, total / len(pairs.same), time.monotonic() - started)


def _measure(network: AFLink, pairs: Pairs) -> dict[str, float]:
    """Return precision and recall of pairs of the same person, at some thresholds."""
    network.eval()
    with torch.inference_mode():
        scores = network(torch.from_numpy(pairs.inputs)).sigmoid().numpy()
    same = pairs.same > 0
    metrics = {"pairs": float(len(same)), "same": float(same.sum())}
    for least in _THRESHOLDS:
        linked = scores >= least
        metrics[f"recall_{least}"] = round(float(linked[same].mean()), 4)
        metrics[f"precision_{least}"] = round(float(same[linked].mean()), 4) if linked.any() else 1.0
    return metrics


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.linker", description=__doc__)
    parser.add_argument("--gt", type=local_path, required=True, help="folder of ground truth")
    parser.add_argument(
        "--config", type=local_path, default=Path("configs/training/linker.yaml"), help="settings, YAML"
    )
    parser.add_argument(
        "--output", type=local_path, default=Path("runs/linker/aflink.safetensors"), help="file for weights"
    )
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")

    def run() -> None:
        settings = load_linker_config(chosen.config)
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        train_linker(chosen.gt, settings, chosen.output)
        logger.info("written: %s", chosen.output)

    return exit_code(run, logger)

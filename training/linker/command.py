"""Trains AFLink on the ground truth of tracking: `python -m training.linker --gt FOLDER --config FILE`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
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
from training.half_precision import half_precision
from training.linker.config import LinkerTraining, load_linker_config
from training.linker.pairs import Pairs, collect_pairs, varied
from training.progress import ProgressLines, Say, duration, quiet
from training.terminal import job_terminal, run

_COMMAND = "python -m training.linker --gt FOLDER --config configs/training/linker.yaml"
_THRESHOLDS = (0.5, 0.8, 0.9, 0.95)


def train_linker(
    gt: Path,
    settings: LinkerTraining,
    target: Path,
    say: Say = quiet,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Train the network and write its weights.

    Args:
        gt: Folder of ground truth.
        settings: The settings.
        target: File for the weights; its metadata hold the metrics.
        say: Prints a line for the user.
        clock: Monotonic clock in seconds.

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
    started = clock()
    say(
        f"{len(training)} sequences of {gt} and {len(validation)} for validation, {settings.runs} runs of trackers "
        f"over each, {settings.epochs} epochs, in this process on the CPU"
    )
    pairs = collect_pairs(list(training.values()), settings.runs, settings, shape, rng, say)
    say(f"{len(pairs.same)} pairs of tracklets, {int(pairs.same.sum())} of the same person")
    network = AFLink(shape, settings.dropout)
    _fit(network, pairs, settings, rng, ProgressLines(say, settings.epochs, clock=clock))
    metrics: dict[str, float] = {}
    if validation:
        metrics = _measure(
            network, collect_pairs(list(validation.values()), settings.validation_runs, settings, shape, rng, say)
        )
        say(f"scores on {', '.join(validation)}: {', '.join(f'{name} {value:g}' for name, value in metrics.items())}")
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
    say(f"done in {duration(clock() - started)}: the model is that of epoch {settings.epochs}; weights in {target}")
    return metrics


def _fit(
    network: AFLink, pairs: Pairs, settings: LinkerTraining, rng: np.random.Generator, lines: ProgressLines
) -> None:
    batches = -(-len(pairs.same) // settings.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.epochs * batches)
    network.train()
    for epoch in range(settings.epochs):
        total = 0.0
        for number, rows in enumerate(np.array_split(rng.permutation(len(pairs.same)), batches), 1):
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
            lines.step(number, lambda: batches)
        lines.end_epoch(epoch + 1, total / len(pairs.same))


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
    parser.add_argument("--logs", action="store_true", help="also print the logs of libraries")
    chosen = parser.parse_args(arguments)

    def train() -> None:
        settings = load_linker_config(chosen.config)
        with job_terminal(chosen.output.with_suffix(".log"), chosen.logs) as say:
            train_linker(chosen.gt, settings, chosen.output, say)

    again = shlex.join(["python", "-m", "training.linker", *(sys.argv[1:] if arguments is None else arguments)])
    return run(train, f"nothing is written; to start again: {again}")

"""Trains the bundled detector: YOLOv8n with the one class `person`, on rendered pictures only."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training.bundled_config import BundledConfig
from training.halved import halved
from training.rendered import NAMES, write_dataset

logger = logging.getLogger("motserve.training.bundled")

ARCHITECTURE = "yolov8n"


def train_detector(config: BundledConfig, output: Path) -> Path:
    """Render the pictures, train, measure and write `detector.safetensors`.

    Args:
        config: Everything that matters; equal settings give equal pictures.
        output: Folder for pictures, checkpoints and the result.

    Returns:
        The weights, half precision, with architecture, class names and metrics in the metadata.
    """
    settings = config.detector
    data = write_dataset(settings, config.seed, output / "pictures")
    weights = output / "detector.safetensors"
    state: dict[str, torch.Tensor] | None = None
    for cycle in range(len(settings.cycles)):
        state = train_cycle(config, cycle, data, state, weights)
    return weights


def train_cycle(
    config: BundledConfig, cycle: int, data: Path, state: dict[str, torch.Tensor] | None, weights: Path
) -> dict[str, torch.Tensor]:
    """Train for one cycle of the learning rate and write the weights after each epoch.

    Args:
        config: Everything that matters.
        cycle: Which cycle of `detector.cycles`, from 0.
        data: The YAML file that describes the data set.
        state: What the cycle before returned; None before the first.
        weights: File to write.

    Returns:
        The averaged weights after the last epoch.
    """
    from training.bundled_yolo import ShortFloatTrainer

    settings = config.detector

    def publish(trainer: Any) -> None:
        metrics = {key: round(float(value), 4) for key, value in trainer.metrics.items()}
        save_detector(trainer.ema.ema, weights, config, metrics)
        logger.info("cycle %d, epoch %d: %s", cycle + 1, trainer.epoch + 1, metrics)

    trainer: Any = ShortFloatTrainer(
        initial=state,
        overrides={
            "model": f"{ARCHITECTURE}.yaml",
            "data": str(data),
            "project": str(weights.parent.resolve()),
            "name": f"run{cycle + 1}",
            "exist_ok": True,
            "imgsz": settings.image_size,
            "epochs": settings.cycles[cycle],
            "batch": settings.batch_size,
            "nbs": settings.batch_size,  # a step per batch: the default gathers gradients up to 64 pictures
            "optimizer": "AdamW",
            "lr0": settings.learning_rate,
            "cos_lr": True,
            "warmup_epochs": settings.warmup_epochs,
            "close_mosaic": settings.mosaic_free_epochs,
            "patience": 0,
            "seed": config.seed + cycle,
            "deterministic": True,
            "pretrained": False,
            "amp": False,
            "plots": False,
            "cache": "ram",
            "workers": 1,
            "device": "cpu",
            "verbose": False,
        },
    )
    # Ultralytics sets the number of threads itself when it sets up, so ours comes after that.
    trainer.add_callback("on_train_start", lambda _: torch.set_num_threads(settings.threads))
    trainer.add_callback("on_fit_epoch_end", publish)
    trainer.train()
    trained: dict[str, torch.Tensor] = trainer.ema.ema.float().state_dict()
    return trained


def save_detector(network: torch.nn.Module, path: Path, config: BundledConfig, metrics: dict[str, float]) -> None:
    """Write a network in half precision; the file appears whole or not at all."""
    metadata = {
        "architecture": ARCHITECTURE,
        "names": json.dumps(NAMES),
        "image_size": str(config.detector.image_size),
        "command": "python -m training.bundled detector",
        "seed": str(config.seed),
        "metrics": json.dumps(metrics),
    }
    part = path.with_suffix(".part")
    save_file(halved(network), part, metadata)
    part.replace(path)

"""Trains the bundled detector: YOLOv8n with the one class `person`, on rendered pictures only."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from motserve.scenes import Shot
from training.bundled_config import BundledConfig, DetectorTraining
from training.bundled_pictures import pictures

logger = logging.getLogger("motserve.training.bundled")

ARCHITECTURE = "yolov8n"
NAMES = {0: "person"}
SEED_STEP = {"train": 0, "val": 1}
"""Added to the seed: what is measured on is of another seed than what is learned from."""

DATA_SETTINGS = {"pictures", "train_pictures", "validation_pictures", "least_visibility"}
"""Settings that decide what the pictures and labels look like."""

SMALLEST_PIXELS = 6
"""A label whose clipped box is lower or narrower than half of this is left out: nothing of it survives the stride."""


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


def write_dataset(settings: DetectorTraining, seed: int, folder: Path) -> Path:
    """Render the pictures in the layout of Ultralytics; a folder that was finished with these settings is kept.

    Returns:
        The YAML file that describes the data set.
    """
    stamp = json.dumps([settings.model_dump(include=DATA_SETTINGS), seed], sort_keys=True)
    data = folder / "data.yaml"
    if data.exists() and (folder / "settings.json").read_text(encoding="utf-8") == stamp:
        return data
    shutil.rmtree(folder, ignore_errors=True)
    for part, count in (("train", settings.train_pictures), ("val", settings.validation_pictures)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for index, (shot, _) in enumerate(pictures(settings.pictures, 2 * seed + SEED_STEP[part], count)):
            name = f"{index:06d}"
            cv2.imwrite(str(folder / "images" / part / f"{name}.jpg"), shot.image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (folder / "labels" / part / f"{name}.txt").write_text(_labels(shot, settings), encoding="utf-8")
    (folder / "settings.json").write_text(stamp, encoding="utf-8")
    description = {"path": str(folder.resolve()), "train": "images/train", "val": "images/val", "names": NAMES}
    data.write_text(yaml.safe_dump(description), encoding="utf-8")
    return data


def _labels(shot: Shot, settings: DetectorTraining) -> str:
    """Write `class x y w h`, centre and size as fractions of the picture, of everybody who can be seen."""
    height, width = shot.image.shape[:2]
    boxes = np.clip(shot.boxes, 0, (width, height, width, height))
    size = boxes[:, 2:] - boxes[:, :2]
    seen = (shot.visibility >= settings.least_visibility) & (size[:, 1] >= SMALLEST_PIXELS)
    seen &= size[:, 0] >= SMALLEST_PIXELS / 2
    rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, size], axis=1)[seen] / (width, height, width, height)
    return "".join("0 " + " ".join(f"{value:.6f}" for value in row) + "\n" for row in rows)


def save_detector(network: torch.nn.Module, path: Path, config: BundledConfig, metrics: dict[str, float]) -> None:
    """Write a network in half precision; the file appears whole or not at all."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    metadata = {
        "architecture": ARCHITECTURE,
        "names": json.dumps(NAMES),
        "image_size": str(config.detector.image_size),
        "command": "python -m training.bundled detector",
        "seed": str(config.seed),
        "metrics": json.dumps(metrics),
    }
    part = path.with_suffix(".part")
    save_file(state, part, metadata)
    part.replace(path)

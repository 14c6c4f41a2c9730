"""Train function of a detector: trains, reports checkpoints, and scores the best epoch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from motserve.config import Config, change_config, load_config
from motserve.files.yaml_reader import read_yaml
from motserve.lab.experiments.measure import measure_detector
from motserve.models.checksums import checksum
from motserve.models.mlflow_store import placed
from motserve.models.registry import Card, Scores, write_card
from motserve.models.weights import resolve_weights
from training.detector.config import DetectorTraining, TeacherConfig
from training.half_precision import half_precision
from training.job import MODEL
from training.job_config import SCRATCH, write_settings
from training.progress import ProgressLines
from training.worker import Worker, WorkerStep

WEIGHTS: Final = "detector.safetensors"

_PROGRESS: Final = "progress.json"
_LAST: Final = "last.pt"
_BEST: Final = "best.pt"
_TABLE: Final = "results.csv"
_PERCENT: Final = 100.0
_NAMES: Final = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "mAP50",
    "metrics/mAP50-95(B)": "mAP50-95",
}
"""Ultralytics' names of ratios, and the common names."""

_FITNESS: Final = "mAP50-95"
"""The score by which Ultralytics chooses the best epoch."""


@dataclass(frozen=True, slots=True)
class Step(WorkerStep):
    """A step of a detector.

    Attributes:
        loss: The loss on the worker's part of the batch.
        network: The network after the step.
    """

    loss: float
    network: torch.nn.Module


Observe = Callable[[Step], None]
"""Callback after every step of a worker."""


def train_detector(worker: Worker, settings: DetectorTraining, observe: Observe | None = None) -> None:
    """Train as one of the workers of a job; see `Job.train`.

    Args:
        worker: This worker.
        settings: The settings.
        observe: Callback after every step; None for no callback.

    Raises:
        WeightsUnavailable: The initial weights are not available.
    """
    last = worker.exchange.latest()
    if last is not None and (last / MODEL).is_dir():
        return
    run = worker.folder / "run"
    if last is not None:
        _restore(last, run)
    if last is None or not json.loads((last / _PROGRESS).read_text())["done"]:
        trainer = _trainer(worker, settings, run, resume=last is not None)
        trainer.add_callback("on_train_start", lambda _: torch.set_num_threads(settings.compute.torch_threads))
        if observe is not None:
            trainer.add_callback("on_train_batch_end", lambda it: observe(_step(worker, it)))
        if worker.is_leader:
            trainer.add_callback("on_train_start", partial(_follow, worker))
        trainer.add_callback("on_fit_epoch_end", partial(_report_epoch, worker, run))
        trainer.train()
    worker.report({}, partial(_finish, worker, settings, run))


def _step(worker: Worker, trainer: Any) -> Step:
    # Ultralytics multiplies the loss, because the gradients of all workers are averaged
    loss = float(trainer.loss.detach()) / worker.count
    return Step(worker, trainer.epoch + 1, trainer.steps, loss, trainer.model)


def _trainer(worker: Worker, settings: DetectorTraining, run: Path, resume: bool) -> Any:
    from training.detector.ray_yolo import RayDetectionTrainer

    overrides = ultralytics_settings(worker, settings, run)
    if resume:
        overrides["resume"] = str(run / "weights" / _LAST)
    initial = None if resume else _initial(settings)
    short = _computes_short(settings, worker.device)
    make_loss = None if settings.teacher is None else partial(_taught_loss, settings, settings.teacher)
    return RayDetectionTrainer(worker, overrides, initial, short, settings.evaluate_every, make_loss)


def _taught_loss(settings: DetectorTraining, teacher: TeacherConfig, network: Any, labelled: Any) -> Any:
    from training.detector.distillation import TaughtLoss, Teacher

    short = _computes_short(settings, next(network.parameters()).device)
    return TaughtLoss(labelled, Teacher(teacher, network, initial_config(settings), short), teacher)


def _computes_short(settings: DetectorTraining, device: torch.device) -> bool:
    """Return whether networks compute in bfloat16 on a CPU."""
    return settings.precision == "bf16" and device.type == "cpu"


def ultralytics_settings(worker: Worker, settings: DetectorTraining, run: Path) -> dict[str, Any]:
    """Return the settings of a job by Ultralytics' names.

    Args:
        worker: The worker.
        settings: The settings.
        run: Folder for what Ultralytics writes.
    """
    augmentation = settings.augmentation
    return {
        "model": f"{settings.architecture}.yaml",
        "data": str(settings.data),
        "save_dir": str(run),
        "project": str(run.parent),
        "name": run.name,
        "exist_ok": True,
        "imgsz": settings.image_size,
        "epochs": settings.epochs,
        "batch": settings.batch_size,
        "nbs": settings.nominal_batch,
        "optimizer": settings.optimizer,
        "lr0": settings.learning_rate,
        "lrf": settings.final_rate,
        "cos_lr": settings.cosine,
        "momentum": settings.momentum,
        "weight_decay": settings.weight_decay,
        "warmup_epochs": settings.warmup_epochs,
        "warmup_bias_lr": settings.warmup_bias_rate,
        "patience": settings.patience,
        "hsv_h": augmentation.hue,
        "hsv_s": augmentation.saturation,
        "hsv_v": augmentation.brightness,
        "translate": augmentation.translate,
        "scale": augmentation.scale,
        "fliplr": augmentation.flip,
        "mosaic": augmentation.mosaic,
        "mixup": augmentation.mixup,
        "close_mosaic": augmentation.mosaic_free_epochs,
        "amp": _mixed_precision(worker, settings),
        "cache": "ram" if settings.cache_pictures else False,
        "workers": settings.compute.loaders,
        "device": str(worker.device),
        "seed": settings.seed,
        "deterministic": True,
        "plots": settings.plots,  # on all workers, because the confusion matrix is summed over them
        "verbose": False,
    }


def _mixed_precision(worker: Worker, settings: DetectorTraining) -> bool | str:
    """Return Ultralytics' setting `amp`; it supports GPUs only."""
    if worker.device.type == "cpu" or settings.precision == "fp32":
        return False
    return "bf16" if settings.precision == "bf16" else True


def initial_config(settings: DetectorTraining) -> Config:
    """Return the configuration to find the initial weights."""
    return load_config(
        overrides={"detector": {"weights": [settings.init]}, "mlflow": placed(settings.mlflow).model_dump()}
    )


def _initial(settings: DetectorTraining) -> Any:
    """Return the initial network; None for random weights."""
    if settings.init == SCRATCH:
        return None
    from motserve.detection.yolo import load_yolo

    return load_yolo(resolve_weights("detector", initial_config(settings))).model


def _restore(checkpoint: Path, run: Path) -> None:
    (run / "weights").mkdir(parents=True)
    for name in (_LAST, _BEST):
        shutil.copyfile(checkpoint / name, run / "weights" / name)
    shutil.copyfile(checkpoint / _TABLE, run / _TABLE)


def _follow(worker: Worker, trainer: Any) -> None:
    """Say from now on how far the training is; an epoch is said to be finished when its checkpoint is stored."""
    if trainer.start_epoch:
        worker.say(f"resumed after epoch {trainer.start_epoch}")
    lines = ProgressLines(worker.say, trainer.epochs, trainer.start_epoch)
    trainer.add_callback("on_train_batch_end", lambda it: lines.step(it.steps, lambda: len(it.train_loader)))
    trainer.add_callback("on_fit_epoch_end", partial(_say_epoch, lines))


def _say_epoch(lines: ProgressLines, trainer: Any) -> None:
    metrics = _metrics(trainer)
    loss = sum(value for name, value in metrics.items() if name.startswith("loss/"))
    lines.end_epoch(trainer.epoch + 1, loss, (_FITNESS, metrics[_FITNESS]) if trainer.evaluated else None)
    if trainer.stop and trainer.epoch + 1 < trainer.epochs:
        lines.end_early(trainer.stopper.best_epoch + 1)


def _report_epoch(worker: Worker, run: Path, trainer: Any) -> None:
    """Log an epoch, then report its checkpoint; an epoch without a checkpoint is repeated and not logged again."""
    metrics: dict[str, float] = {}
    if worker.is_leader:
        metrics = _metrics(trainer)
        assert worker.log is not None
        worker.log.metrics(trainer.epoch + 1, metrics)

    def write(folder: Path) -> None:
        for name in (_LAST, _BEST):
            shutil.copyfile(run / "weights" / name, folder / name)
        shutil.copyfile(run / _TABLE, folder / _TABLE)
        progress = {"done": bool(trainer.stop)}
        (folder / _PROGRESS).write_text(json.dumps(progress), encoding="utf-8")

    worker.report(metrics, write)


def _metrics(trainer: Any) -> dict[str, float]:
    metrics = {f"loss/{name.removesuffix('_loss')}": float(value) for name, value in trainer.tloss.items()}
    metrics |= {"learning_rate": trainer.optimizer.param_groups[0]["lr"], "images_per_s": trainer.images_per_s}
    if trainer.evaluated:
        for name, value in trainer.metrics.items():
            if name in _NAMES:
                metrics[_NAMES[name]] = _PERCENT * value
            else:
                metrics[f"val_loss/{name.partition('/')[2].removesuffix('_loss')}"] = value
    return metrics


def _finish(worker: Worker, settings: DetectorTraining, run: Path, folder: Path) -> None:
    """Write the model of the best epoch into the last checkpoint, with scores of motserve's own evaluation."""
    from ultralytics.nn import tasks

    untyped: Any = tasks
    assert worker.log is not None
    model = folder / MODEL
    model.mkdir()
    network, best = untyped.load_checkpoint(str(run / "weights" / _BEST))
    architecture = save_yolo(network, model / WEIGHTS, settings)
    scores = _measure(model / WEIGHTS, settings, worker)
    training = {
        "job": settings.name,
        "seed": settings.seed,
        "init": settings.init,
        "image_size": settings.image_size,
        "epoch": best["epoch"] + 1,
        "validation": {_FITNESS: _PERCENT * best["train_metrics"]["metrics/mAP50-95(B)"]},
    }
    write_card(model, Card("detector", WEIGHTS, checksum(model / WEIGHTS), architecture, training, (scores,)))
    (folder / _PROGRESS).write_text(json.dumps({"done": True}), encoding="utf-8")
    shutil.copyfile(run / _TABLE, folder / _TABLE)
    worker.log.summary({f"best/{name}": value for name, value in scores.metrics.items()})
    for picture in sorted((*run.glob("*.png"), *run.glob("*.jpg"))):
        worker.log.artifacts(picture, "pictures")
    worker.log.artifacts(run / _TABLE)
    settings_file = worker.folder / "settings.yaml"
    write_settings(settings, settings_file)
    worker.log.artifacts(settings_file)


def _measure(weights: Path, settings: DetectorTraining, worker: Worker) -> Scores:
    names = read_yaml(settings.data)["names"]
    changes = {
        "detector": {
            "weights": [str(weights)],
            "image_size": settings.image_size,
            "classes": list(names.values() if isinstance(names, dict) else names),
            "device": str(worker.device),
        },
        "cache_dir": str(worker.folder / "cache"),
    }
    return measure_detector(change_config(Config(), changes), settings.data, settings.test or "val")


def save_yolo(network: Any, path: Path, settings: DetectorTraining) -> str:
    """Write a network in half precision, as Ultralytics does.

    Args:
        network: Ultralytics' detection model.
        path: The `.safetensors` to write.
        settings: Settings of the training, some of which go into the metadata.

    Returns:
        The name of its architecture.
    """
    from safetensors.torch import save_file

    architecture = Path(network.yaml.get("yaml_file", settings.architecture)).stem
    metadata = {
        "architecture": architecture,
        "network": json.dumps(network.yaml),
        "names": json.dumps(network.names),
        "image_size": str(settings.image_size),
        "job": settings.name,
    }
    save_file(half_precision(network.state_dict()), path, metadata)
    return architecture

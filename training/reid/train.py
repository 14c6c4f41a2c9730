"""Train function of an embedder: epochs, validation and checkpoints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from motserve.errors import MotserveError
from motserve.lab.evaluation.retrieval import RETRIEVAL_RATIOS
from motserve.lab.experiments.record import percent
from training.job import MODEL
from training.progress import ProgressLines, quiet
from training.reid.config import ReidTrainingConfig
from training.reid.crops import CropDataset, load_batches
from training.reid.data import TrainingData, list_tests, read_training_data
from training.reid.engine import Engine
from training.reid.losses import Learner, Losses
from training.reid.network import build_network, load_start
from training.reid.result import write_result
from training.reid.sampler import PKBatches, Share
from training.reid.validation import validate
from training.worker import Worker, WorkerStep

_STATE: Final = "state.pt"
_DECIDES: Final = "mAP"
"""The validation score by which the best epoch is chosen."""

_VALIDATED: Final = f"validation/{_DECIDES}"


@dataclass(frozen=True, slots=True)
class Step(WorkerStep):
    """A step of an embedder.

    Attributes:
        losses: The losses on the worker's part of the batch.
        learner: The learner after the step.
    """

    losses: Losses
    learner: Learner


Observe = Callable[[Step], None]
"""Callback after every step of a worker."""


@dataclass(slots=True)
class Progress:
    """Progress of the training.

    Attributes:
        epoch: The last finished epoch; 0 before the first.
        ended: Whether it is the last epoch.
        best_epoch: The best epoch by validation, or the last without validation; 0 before the first.
        scores: Validation scores of the best epoch, in per cent.
        network: Its weights, on rank 0.
    """

    epoch: int = 0
    ended: bool = False
    best_epoch: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    network: dict[str, torch.Tensor] = field(default_factory=dict)


def silent(_: Step) -> None:
    """Ignore the step."""


def train_reid(worker: Worker, settings: ReidTrainingConfig, observe: Observe = silent) -> None:
    """Train the embedder, resume from the last checkpoint if there is one, and write the result into the last.

    Args:
        worker: This worker.
        settings: The settings.
        observe: Callback after every step.

    Raises:
        MotserveError: Data or weights are missing or not valid, or the losses are no longer finite.
    """
    last = worker.exchange.latest()
    if last is not None and (last / MODEL).is_dir():
        return
    data = read_training_data(settings.data)
    engine = _engine(worker, settings, data, fresh=last is None)
    progress = Progress()
    if last is not None:
        state = torch.load(last / _STATE, map_location="cpu", weights_only=True)
        engine.restore(state["engine"])
        progress = Progress(**state["progress"])
        if worker.is_leader:
            worker.say(f"resumed after epoch {progress.epoch}")
    batches = PKBatches(
        data.labels,
        settings.batch.identities,
        settings.batch.views,
        settings.seed,
        Share(worker.rank, worker.count),
    )
    dataset = CropDataset(data.train.paths, data.labels, settings.crops)
    loader = load_batches(dataset, batches, settings.compute.loaders, worker.device.type == "cuda")
    lines = ProgressLines(worker.say if worker.is_leader else quiet, settings.schedule.epochs, progress.epoch)

    def notify(step: Step) -> None:
        lines.step(step.number, lambda: len(loader))
        observe(step)

    while not progress.ended:
        epoch = batches.epoch = progress.epoch + 1
        metrics = _learn(worker, settings, engine, loader, epoch, notify)
        progress.epoch = epoch
        if worker.is_leader:
            metrics |= _validate_if_due(settings, engine, data, progress)
        progress.ended = _broadcast_decision(worker, progress.ended)
        if worker.log is not None:
            worker.log.metrics(epoch, metrics)
        worker.report(metrics, partial(_write_state, engine, progress))
        if worker.is_leader:
            score = (f"validation {_DECIDES}", metrics[_VALIDATED]) if _VALIDATED in metrics else None
            lines.end_epoch(epoch, metrics["loss/total"], score)
            if progress.ended and epoch < settings.schedule.epochs:
                lines.end_early(progress.best_epoch)
    _conclude(worker, settings, progress)


def _engine(worker: Worker, settings: ReidTrainingConfig, data: TrainingData, fresh: bool) -> Engine:
    torch.manual_seed(settings.seed)
    network = build_network(settings.network, settings.crops)
    if fresh and worker.is_leader:  # the other workers get them from rank 0
        load_start(network, settings.network, settings.crops, settings.mlflow)
    return Engine(worker, settings, network, data.classes)


def _learn(
    worker: Worker, settings: ReidTrainingConfig, engine: Engine, loader: Any, epoch: int, observe: Observe
) -> dict[str, float]:
    """Train for one epoch and return its metrics, over all workers."""
    # random numbers of the network itself, such as for dropout, must not depend on earlier epochs
    torch.manual_seed(int(np.random.SeedSequence([settings.seed, epoch, worker.rank]).generate_state(1)[0]))
    rate = engine.begin(epoch)
    started = time.monotonic()
    sums = torch.zeros(len(Losses._fields) + 1, dtype=torch.float64, device=worker.device)
    crops = steps = 0
    for number, (pixels, labels) in enumerate(loader, 1):
        losses, recognised = engine.step(pixels, labels)
        sums += torch.stack([*losses, recognised.float()])  # stays on the device to avoid synchronisation
        crops, steps = crops + len(labels), number
        observe(Step(worker, epoch, number, losses, engine.learner))
    if worker.count > 1:
        torch.distributed.all_reduce(sums)
    *totals, total_recognised = sums.tolist()
    # all workers have the same number of steps and crops
    means = {name: total / (steps * worker.count) for name, total in zip(Losses._fields, totals, strict=True)}
    if not np.isfinite(means["total"]):
        raise MotserveError(
            f"the losses of epoch {epoch} are not finite: {means}; lower schedule.learning_rate, set "
            "schedule.clip_norm, or train in another precision"
        )
    return {
        **{f"loss/{name}": value for name, value in means.items()},
        "learning_rate": rate,
        "accuracy": 100 * total_recognised / (crops * worker.count),
        "images_per_s": crops * worker.count / (time.monotonic() - started),
    }


def _validate_if_due(
    settings: ReidTrainingConfig, engine: Engine, data: TrainingData, progress: Progress
) -> dict[str, float]:
    """Validate if due, keep the best network, and decide whether the training ends."""
    epoch, validation = progress.epoch, settings.validation
    network = engine.learner.network
    progress.ended = epoch >= settings.schedule.epochs
    if not len(data.validation):
        if progress.ended:
            _keep(progress, network.state_dict(), {})
        return {}
    if epoch % validation.every and not progress.ended:
        return {}
    validated = validate(network, data.validation, settings.crops, validation.batch_size, engine.normalise)
    scores = percent({name: validated.as_dict()[name] for name in RETRIEVAL_RATIOS}, RETRIEVAL_RATIOS)
    if not progress.best_epoch or scores[_DECIDES] > progress.scores[_DECIDES]:
        _keep(progress, network.state_dict(), scores)
    elif validation.patience and epoch - progress.best_epoch >= validation.patience:
        progress.ended = True
    return {f"validation/{name}": value for name, value in scores.items()}


def _keep(progress: Progress, network: Mapping[str, torch.Tensor], scores: Mapping[str, float]) -> None:
    progress.best_epoch = progress.epoch
    progress.scores = dict(scores)
    progress.network = {name: value.detach().to("cpu", copy=True) for name, value in network.items()}


def _broadcast_decision(worker: Worker, ended: bool) -> bool:
    """Return the decision of rank 0."""
    if worker.count == 1:
        return ended
    decision = torch.tensor([int(ended)], device=worker.device)
    torch.distributed.broadcast(decision, src=0)
    return bool(decision.item())


def _write_state(engine: Engine, progress: Progress, folder: Path) -> None:
    state = {name: getattr(progress, name) for name in Progress.__dataclass_fields__}
    torch.save({"engine": engine.state(), "progress": state}, folder / _STATE)


def _conclude(worker: Worker, settings: ReidTrainingConfig, progress: Progress) -> None:
    """Score the best network once on the tests and report it; the other workers wait."""
    folder = worker.folder / MODEL
    metrics: dict[str, float] = {}
    if worker.log is not None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        training = {
            "job": settings.name,
            "seed": settings.seed,
            "epochs": progress.epoch,
            "epoch": progress.best_epoch,
            "init": settings.network.init,
            "data": settings.data.root.name,
            "validation": progress.scores,
        }
        metrics = write_result(
            progress.network, settings, list_tests(settings), training, folder, worker.folder, str(worker.device)
        )
        worker.log.summary(metrics)
        worker.log.artifacts(worker.folder / "pictures", "pictures")
        worker.log.artifacts(worker.folder / "settings.yaml")
    worker.report(metrics, partial(_write_model, folder))


def _write_model(model: Path, folder: Path) -> None:
    shutil.copytree(model, folder / MODEL)

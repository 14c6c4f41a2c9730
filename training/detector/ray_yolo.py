"""Ultralytics' detection trainer as one of several workers of Ray Train.

Import it in a worker only: Ultralytics reads its rank from the environment when it is imported.
"""

from __future__ import annotations

import time
from inspect import signature
from typing import Any, Final

import torch

from motserve.models.libraries import import_ultralytics
from training.detector.bfloat16 import ShortFloatModel
from training.worker import Worker

import_ultralytics()

from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402  # its environment is set first
from ultralytics.nn.tasks import DetectionModel  # noqa: E402
from ultralytics.utils import SETTINGS  # noqa: E402

_INTEGRATIONS: Final = ("sync", "mlflow", "clearml", "comet", "dvc", "raytune", "tensorboard", "wandb")
_BUFFERS_SWITCH: Final = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")  # its name since torch 2.13, and before
    if name in signature(torch.nn.parallel.DistributedDataParallel.__init__).parameters
)

# in this process alone: `SETTINGS.update` would write them into the user's file
dict.update(SETTINGS, dict.fromkeys(_INTEGRATIONS, False))


class RayDetectionTrainer(DetectionTrainer):
    """Trains with the other workers of a job, on CPUs as well as on GPUs.

    As it comes, Ultralytics starts processes of its own. Run by somebody else's it takes the number of workers from a
    list of devices, which on CPUs makes it zero: the loss is multiplied by that and nothing is synchronised.

    Args:
        worker: This worker.
        overrides: Settings of Ultralytics.
        initial: Network to start from, whose arrays that fit are taken; None for random ones.
        short: Train in bfloat16 on a CPU.
        evaluate_every: Epochs between two measurements.

    Attributes:
        evaluated: Whether the present epoch was measured.
        steps: Batches of the present epoch that it has learned from.
        images_per_s: Pictures that all workers together learned from per second in the present epoch.
    """

    # Ultralytics does not say what these are
    validator: Any
    ema: Any
    stopper: Any
    model: Any

    def __init__(
        self,
        worker: Worker,
        overrides: dict[str, Any],
        initial: DetectionModel | None,
        short: bool,
        evaluate_every: int,
    ) -> None:
        self._worker = worker
        self._initial = initial
        self._short = short
        self._every = evaluate_every
        self._began = 0.0
        self.evaluated = False
        self.steps = 0
        self.images_per_s = 0.0
        untyped: Any = super()
        untyped.__init__(overrides=overrides)
        self.world_size = worker.count
        self.ddp = False
        self.add_callback("on_train_epoch_start", _begin)
        self.add_callback("on_train_batch_end", _count)
        self.add_callback("on_train_epoch_end", _end)

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> DetectionModel:
        """Build the network, with the initial weights where training begins from some; see Ultralytics."""
        if self._initial is not None and not self.resume:
            cfg, weights = self._initial.yaml, self._initial
        untyped: Any = super()
        model: DetectionModel = untyped.get_model(cfg, weights, verbose)
        if self._short:
            model.__class__ = ShortFloatModel
            model.to(memory_format=torch.channels_last)
        return model

    def _setup_ddp(self) -> None:
        """Take the process group and the device that Ray has set up."""
        self.device = self._worker.device

    def _setup_train(self) -> None:
        """Keep Ultralytics from wrapping the network, which it can only for GPUs."""
        self.world_size = 1
        untyped: Any = super()
        untyped._setup_train()

    def _build_train_pipeline(self) -> None:
        """Wrap the network for all workers; in `_setup_train` this comes where Ultralytics would have done it."""
        self.world_size = self._worker.count
        if self.world_size > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            wrap: Any = torch.nn.parallel.DistributedDataParallel
            self.model = wrap(self.model, device_ids=devices, find_unused_parameters=True, **{_BUFFERS_SWITCH: False})
        untyped: Any = super()
        untyped._build_train_pipeline()

    def validate(self) -> tuple[Any, Any]:
        """Measure, and draw pictures of it: training may stop at any epoch, and Ultralytics draws at the last alone."""
        untyped: Any = super()
        self.evaluated = True
        self.validator.args.plots = self.args.plots
        self.stopper.possible_stop = True
        measured: tuple[Any, Any] = untyped.validate()
        return measured

    def save_model(self) -> bool:
        """Write the checkpoint with a class that Ultralytics' safe loading knows."""
        if self._short:
            self.ema.ema.__class__ = DetectionModel
        untyped: Any = super()
        return bool(untyped.save_model())

    def final_eval(self) -> None:
        """Measure nothing: the job does that, with the code that measures everything else."""

    def begin_epoch(self) -> None:
        """Decide whether this epoch will be measured. One that is not must not pass for as good as the last."""
        self.evaluated, self.steps = False, 0
        self.stopper.possible_stop = False  # rank 0 alone would know it, and measure what the others do not
        self.args.val = (self.epoch + 1) % self._every == 0
        if not self.args.val:
            self.fitness = None
        self._began = time.monotonic()

    def end_epoch(self) -> None:
        """Note how fast it was."""
        self.images_per_s = len(self.train_loader.dataset) / (time.monotonic() - self._began)


def _begin(trainer: RayDetectionTrainer) -> None:
    trainer.begin_epoch()


def _count(trainer: RayDetectionTrainer) -> None:
    trainer.steps += 1


def _end(trainer: RayDetectionTrainer) -> None:
    trainer.end_epoch()

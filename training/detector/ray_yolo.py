"""Ultralytics' detection trainer as one of several workers of Ray Train.

Import it in a worker only: Ultralytics reads its rank from the environment when it is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from inspect import signature
from typing import Any, Final

import torch

from motserve.detection.yolo_network import build_network
from motserve.models.libraries import import_ultralytics
from training.detector.bfloat16 import ShortFloatModel
from training.worker import Worker

import_ultralytics()

from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402  # its environment is set first
from ultralytics.nn.tasks import DetectionModel  # noqa: E402
from ultralytics.utils import SETTINGS  # noqa: E402
from ultralytics.utils.torch_utils import unwrap_model  # noqa: E402

_INTEGRATIONS: Final = ("sync", "mlflow", "clearml", "comet", "dvc", "raytune", "tensorboard", "wandb")
_BUFFERS_SWITCH: Final = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")  # its name since torch 2.13, and before
    if name in signature(torch.nn.parallel.DistributedDataParallel.__init__).parameters
)

# only in this process: `SETTINGS.update` would write to the user's settings file
dict.update(SETTINGS, dict.fromkeys(_INTEGRATIONS, False))


class RayDetectionTrainer(DetectionTrainer):
    """Ultralytics' trainer as one of the workers of a job, on CPUs or GPUs.

    By default Ultralytics starts its own processes. In processes of another launcher it takes the number of workers
    from a list of devices, which is zero on CPUs: the loss is multiplied by zero and nothing is synchronised.

    Args:
        worker: This worker.
        overrides: Settings of Ultralytics.
        initial: Network whose weights of matching shape are loaded; None for random weights.
        short: Train in bfloat16 on a CPU.
        evaluate_every: Epochs between two evaluations.
        make_loss: Makes the loss of a network from Ultralytics' own; None for Ultralytics' own.

    Attributes:
        evaluated: Whether the current epoch was evaluated.
        steps: Finished steps of the current epoch.
        images_per_s: Pictures per second of all workers in the current epoch.
    """

    # Ultralytics does not annotate these
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
        make_loss: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._worker = worker
        self._initial = initial
        self._short = short
        self._every = evaluate_every
        self._make_loss = make_loss
        self._began = 0.0
        self.evaluated = False
        self.steps = 0
        self.images_per_s = 0.0
        untyped: Any = super()
        untyped.__init__(overrides=overrides)
        self.world_size = worker.count
        self.ddp = False
        self.add_callback("on_train_start", _begin_training)
        self.add_callback("on_train_epoch_start", _begin)
        self.add_callback("on_train_batch_end", _count)
        self.add_callback("on_train_epoch_end", _end)

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> DetectionModel:
        """Build the network, with the initial weights if there are any; see Ultralytics."""
        if self._initial is not None and not self.resume:
            cfg, weights = self._initial.yaml, self._initial
        if weights is not None:
            cfg = weights.yaml
        model: DetectionModel = build_network(cfg, self.data["nc"])
        model.names = self.data["names"]
        if weights is not None:
            model.load(weights, verbose=False)
        if self._short:
            model.__class__ = ShortFloatModel
            model.to(memory_format=torch.channels_last)
        return model

    def _setup_ddp(self) -> None:
        """Use the process group and the device that Ray has set up."""
        self.device = self._worker.device

    def _setup_train(self) -> None:
        """Prevent Ultralytics from wrapping the network, which it supports for GPUs only."""
        self.world_size = 1
        untyped: Any = super()
        untyped._setup_train()

    def _build_train_pipeline(self) -> None:
        """Wrap the network for all workers, at the point of `_setup_train` where Ultralytics would do it."""
        self.world_size = self._worker.count
        if self.world_size > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            wrap: Any = torch.nn.parallel.DistributedDataParallel
            self.model = wrap(self.model, device_ids=devices, find_unused_parameters=True, **{_BUFFERS_SWITCH: False})
        untyped: Any = super()
        untyped._build_train_pipeline()

    def begin_training(self) -> None:
        """Replace the loss: after the averaged network is copied, which is evaluated with Ultralytics' own."""
        if self._make_loss is not None:
            network: Any = unwrap_model(self.model)
            network.criterion = self._make_loss(network, network.init_criterion())

    def validate(self) -> tuple[Any, Any]:
        """Evaluate and draw plots: training may stop at any epoch, but Ultralytics draws plots only at the last."""
        untyped: Any = super()
        self.evaluated = True
        self.validator.args.plots = self.args.plots
        self.stopper.possible_stop = True
        metrics: tuple[Any, Any] = untyped.validate()
        return metrics

    def save_model(self) -> bool:
        """Write the checkpoint with a class that Ultralytics' safe loading accepts."""
        if self._short:
            self.ema.ema.__class__ = DetectionModel
        untyped: Any = super()
        return bool(untyped.save_model())

    def final_eval(self) -> None:
        """Do nothing: the job scores the final model with motserve's own evaluation."""

    def begin_epoch(self) -> None:
        """Decide whether to evaluate this epoch. Otherwise its fitness is unknown, not that of the last evaluation."""
        self.evaluated, self.steps = False, 0
        self.stopper.possible_stop = False  # only rank 0 would decide to evaluate, and the others would not
        self.args.val = (self.epoch + 1) % self._every == 0
        if not self.args.val:
            self.fitness = None
        self._began = time.monotonic()

    def end_epoch(self) -> None:
        """Compute the throughput of the epoch."""
        self.images_per_s = len(self.train_loader.dataset) / (time.monotonic() - self._began)


def _begin_training(trainer: RayDetectionTrainer) -> None:
    trainer.begin_training()


def _begin(trainer: RayDetectionTrainer) -> None:
    trainer.begin_epoch()


def _count(trainer: RayDetectionTrainer) -> None:
    trainer.steps += 1


def _end(trainer: RayDetectionTrainer) -> None:
    trainer.end_epoch()

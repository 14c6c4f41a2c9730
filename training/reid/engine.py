"""The learner with its optimisers: training step, learning rate and checkpoint state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from motserve.reid.network import EmbedderNetwork
from training.reid.config import ReidTrainingConfig, ScheduleConfig
from training.reid.crops import Normaliser
from training.reid.losses import Criterion, Learner, Losses
from training.worker import Worker


def learning_rate(schedule: ScheduleConfig, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 1; it depends on nothing else.

    >>> rates = [learning_rate(ScheduleConfig(), epoch) for epoch in (1, 11, 40, 41, 71)]
    >>> [f"{rate:.2g}" for rate in rates]
    ['3.5e-06', '0.00035', '0.00035', '3.5e-05', '3.5e-06']
    """
    done = epoch - 1
    if done < schedule.warmup_epochs:
        share = schedule.warmup_factor + (1 - schedule.warmup_factor) * done / schedule.warmup_epochs
    elif schedule.decay == "cosine":
        remaining = max(schedule.epochs - schedule.warmup_epochs, 1)
        share = 0.5 * (1 + math.cos(math.pi * (done - schedule.warmup_epochs) / remaining))
    else:
        share = schedule.gamma ** sum(done >= milestone for milestone in schedule.milestones)
    return schedule.learning_rate * share


class Engine:
    """Runs training steps together with the other workers.

    Args:
        worker: This worker.
        settings: The settings.
        network: The embedder with its initial weights; those of rank 0 are used.
        classes: Number of training people.

    Attributes:
        learner: The network with classifier and centres.
        normalise: Moves crops to the device and normalises them.
    """

    def __init__(self, worker: Worker, settings: ReidTrainingConfig, network: EmbedderNetwork, classes: int) -> None:
        self._settings = settings
        self._device = worker.device
        learner: nn.Module = Learner(network, classes, settings.losses.centre_weight > 0, settings.losses.cosine_scale)
        if settings.network.sync_batch_norm and worker.count > 1:
            learner = nn.SyncBatchNorm.convert_sync_batchnorm(learner)  # type: ignore[no-untyped-call]
        assert isinstance(learner, Learner)
        # channels last makes the depthwise convolutions of a MobileNet a third faster on a CPU
        self.learner: Learner = learner.to(worker.device).to(memory_format=torch.channels_last)
        self.normalise = Normaliser(worker.device)
        self._shared: nn.Module = self.learner
        if worker.count > 1:
            devices = [worker.device] if worker.device.type == "cuda" else None
            self._shared = DistributedDataParallel(self.learner, device_ids=devices)
        self._criterion = Criterion(settings.losses)
        self._weights = [
            value for value in self.learner.parameters() if value.requires_grad and value is not self.learner.centres
        ]
        schedule = settings.schedule
        self._optimiser = torch.optim.Adam(self._weights, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        centres = self.learner.centres
        self._centres = None if centres is None else torch.optim.SGD([centres], settings.losses.centre_learning_rate)
        self._scaler = torch.amp.GradScaler(enabled=settings.precision == "fp16")

    def begin(self, epoch: int) -> float:
        """Prepare for an epoch, counted from 1, and return its learning rate."""
        rate = learning_rate(self._settings.schedule, epoch)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self.learner.train()
        return rate

    def step(self, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[Losses, torch.Tensor]:
        """Run one training step on this worker's part of a batch.

        Args:
            pixels: `(b, 3, height, width)` uint8 RGB.
            labels: `(b,)` int64.

        Returns:
            The losses on this part, and its number of correctly classified crops; on the device, without gradients.
        """
        labels = labels.to(self._device, non_blocking=True)
        with self._cast():
            learned = self._shared(self.normalise(pixels), labels)
        losses = self._criterion(learned, labels)
        optimisers = [self._optimiser, *([] if self._centres is None else [self._centres])]
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(self._scaler.scale(losses.total))
        for optimiser in optimisers:
            self._scaler.unscale_(optimiser)
        if self._settings.schedule.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._weights, self._settings.schedule.clip_norm)
        centres = self.learner.centres
        if centres is not None and centres.grad is not None:
            # the weight is for the features; centres move at their own rate (Luo et al.)
            centres.grad /= self._settings.losses.centre_weight
        for optimiser in optimisers:
            self._scaler.step(optimiser)
        self._scaler.update()
        recognised = (learned.logits.detach().argmax(dim=1) == labels).sum()
        return Losses(*(loss.detach() for loss in losses)), recognised

    def state(self) -> dict[str, Any]:
        """Return the state of network and optimisers."""
        return {
            "learner": self.learner.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "centres": None if self._centres is None else self._centres.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self.learner.load_state_dict(state["learner"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._centres is not None:
            self._centres.load_state_dict(state["centres"])
        self._scaler.load_state_dict(state["scaler"])

    def _cast(self) -> AbstractContextManager[Any]:
        precision = self._settings.precision
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16 if precision == "bf16" else torch.float16)

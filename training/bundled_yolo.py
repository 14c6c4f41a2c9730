"""Ultralytics' detection trainer, made twice as fast on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from motserve.libraries import import_ultralytics

import_ultralytics()

from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402  # its environment is set first
from ultralytics.nn.tasks import DetectionModel  # noqa: E402


class ShortFloatModel(DetectionModel):
    """A detection model that trains in bfloat16, channels last; the loss and inference stay in single precision.

    Ultralytics' own mixed precision is for CUDA alone. The loss decodes box edges, for which eight bits are too few.
    """

    def predict(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the network; see Ultralytics."""
        untyped: Any = super()
        if not self.training:
            return untyped.predict(x, *args, **kwargs)
        with torch.autocast("cpu", torch.bfloat16):
            return _single(untyped.predict(x.contiguous(memory_format=torch.channels_last), *args, **kwargs))


class ShortFloatTrainer(DetectionTrainer):
    """Ultralytics' trainer with a `ShortFloatModel`, and without checkpoints of its own.

    Ultralytics' safe loading refuses a checkpoint with a class that is not its own; callbacks see the network instead.

    Args:
        overrides: Settings of Ultralytics.
        initial: State dict to start from; None for random weights.
    """

    def __init__(self, overrides: dict[str, Any], initial: Mapping[str, torch.Tensor] | None = None) -> None:
        self._initial = initial
        untyped: Any = super()
        untyped.__init__(overrides=overrides)

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> ShortFloatModel:
        """Build the network, with the initial weights where there are some, else with random ones."""
        build: Any = ShortFloatModel
        model: ShortFloatModel = build(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=False)
        if self._initial is not None:
            model.load_state_dict(self._initial)
        return model.to(memory_format=torch.channels_last)

    def save_model(self) -> None:
        """Write nothing."""

    def final_eval(self) -> None:
        """Measure nothing: the last epoch was measured already."""


def _single(value: Any) -> Any:
    """Return nested predictions with every tensor in single precision."""
    if isinstance(value, dict):
        return {key: _single(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_single(part) for part in value]
    return value.float()

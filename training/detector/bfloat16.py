"""A detection network that trains in bfloat16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch

from motserve.models.libraries import import_ultralytics

import_ultralytics()

from ultralytics.nn.tasks import DetectionModel  # noqa: E402  # its environment is set first


class ShortFloatModel(DetectionModel):
    """A detection model that trains in bfloat16, channels last; the loss and inference stay in single precision.

    Ultralytics' own mixed precision supports CUDA only. The loss decodes box edges, for which eight bits are too few.
    """

    def predict(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the network; see Ultralytics."""
        untyped: Any = super()
        if not self.training:
            return untyped.predict(x, *args, **kwargs)
        with torch.autocast("cpu", torch.bfloat16):
            return single(untyped.predict(x.contiguous(memory_format=torch.channels_last), *args, **kwargs))


def single(value: Any) -> Any:
    """Return nested predictions with every tensor in single precision."""
    if isinstance(value, dict):
        return {key: single(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [single(part) for part in value]
    return value.float()

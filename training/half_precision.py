"""Conversion of a network's state to half precision, for bundled weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def half_precision(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state of a network for a `.safetensors`, its floating-point arrays in half precision."""
    return {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}

"""Chooses the device that a network runs on."""

from __future__ import annotations

from motserve.errors import InvalidConfig


def choose_device(name: str) -> str:
    """Resolve a device name of the configuration.

    Args:
        name: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.

    Returns:
        A device name for torch; `auto` is `cuda:0` if it exists, else `cpu`.

    Raises:
        InvalidConfig: The device does not exist on this machine.
    """
    import torch

    count = torch.cuda.device_count()
    if name == "auto":
        return "cuda:0" if count else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise InvalidConfig(f"device {name} does not exist: this machine has {count} CUDA devices")
        return f"cuda:{index}"
    if name == "mps" and not torch.backends.mps.is_available():
        raise InvalidConfig("device mps does not exist on this machine")
    return name

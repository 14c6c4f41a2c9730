"""Reads files that hold only a network's arrays, and loads them into the network."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from motserve.detection.families import read_metadata
from motserve.models.weights import Weights

_MAX_LISTED = 3
"""Most names of arrays in a message; a wrong file differs in hundreds."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network's arrays.

    Attributes:
        state: Each array by its name in the network, on the CPU.
        names: Name of each label, from 1 as 0 is the background; None if the file has none.
    """

    state: dict[str, torch.Tensor]
    names: dict[int, str] | None


def read_checkpoint(weights: Weights) -> Checkpoint:
    """Read a `.safetensors`, or a state dict in a `.pth` without running code from it.

    Class names are the `names` in the metadata of a `.safetensors`: a JSON object such as `{"1": "person"}`.

    Raises:
        ValueError: The file holds something else. For a broken file, the error of its reader is raised.
    """
    if weights.path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return Checkpoint(load_file(weights.path), _read_names(read_metadata(weights.path)))
    state = torch.load(weights.path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(values, torch.Tensor) for values in state.values()):
        raise ValueError("it is no state dict, the mapping from names to arrays that a network's state_dict() returns")
    return Checkpoint(state, None)


def load_checkpoint(network: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Load a checkpoint into a network.

    Raises:
        ValueError: It is of another network, or of another number of classes.
    """
    expected, state = network.state_dict(), checkpoint.state
    # used in training only, and absent where batch norm was frozen
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    other_shape = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if missing or unexpected or other_shape:
        hint = "" if checkpoint.names else "; without `names` in its metadata it is expected to have COCO's classes"
        raise ValueError(
            f"misses {len(missing)} arrays {missing[:_MAX_LISTED]}, "
            f"has {len(unexpected)} too many {unexpected[:_MAX_LISTED]}, "
            f"{len(other_shape)} of other shapes {other_shape[:_MAX_LISTED]}{hint}"
        )
    network.load_state_dict(state, strict=False)


def coco_names() -> dict[int, str]:
    """Return the name of each of COCO's labels, which go from 1 to 90 with gaps."""
    from torchvision.models import get_model_weights

    categories = get_model_weights("fasterrcnn_resnet50_fpn").DEFAULT.meta["categories"]
    return {label: name for label, name in enumerate(categories) if name not in ("__background__", "N/A")}


def _read_names(metadata: dict[str, str]) -> dict[int, str] | None:
    if "names" not in metadata:
        return None
    names = json.loads(metadata["names"])
    if not isinstance(names, dict) or not names or min(map(int, names)) < 1:
        raise ValueError(f"`names` in its metadata map labels from 1 to names, as in {{'1': 'person'}}; got {names}")
    return {int(label): str(name) for label, name in names.items()}

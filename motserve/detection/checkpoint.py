"""Reads files that hold nothing but a network's arrays, and puts them into the network."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from motserve.detection.families import read_metadata
from motserve.models.weights import Weights

_SHOWN = 3
"""Names of arrays in a message; a wrong file differs in hundreds."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network's arrays.

    Attributes:
        state: Each array by its name in the network, on the CPU.
        names: Name of each label, from 1 as 0 is the background; None where the file does not tell.
    """

    state: dict[str, torch.Tensor]
    names: dict[int, str] | None


def read_checkpoint(weights: Weights) -> Checkpoint:
    """Read a `.safetensors`, or a state dict in a `.pth` without running code from it.

    Class names are the `names` in the metadata of a `.safetensors`: a JSON object such as `{"1": "person"}`.

    Raises:
        ValueError: The file holds something else. Broken files raise what their reader raises.
    """
    if weights.path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return Checkpoint(load_file(weights.path), _read_names(read_metadata(weights.path)))
    state = torch.load(weights.path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(values, torch.Tensor) for values in state.values()):
        raise ValueError("it is no state dict, the mapping from names to arrays that a network's state_dict() returns")
    return Checkpoint(state, None)


def load_checkpoint(network: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Put a checkpoint into a network.

    Raises:
        ValueError: It belongs to another network, or to another number of classes.
    """
    own, state = network.state_dict(), checkpoint.state
    # counted in training only, and absent where batch norm was frozen
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    surplus = [name for name in state if name not in own]
    other = [name for name in own if name in state and state[name].shape != own[name].shape]
    if missing or surplus or other:
        hint = "" if checkpoint.names else "; without `names` in its metadata it is taken for one of COCO's classes"
        raise ValueError(
            f"misses {len(missing)} arrays {missing[:_SHOWN]}, has {len(surplus)} too many {surplus[:_SHOWN]}, "
            f"{len(other)} of other shapes {other[:_SHOWN]}{hint}"
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

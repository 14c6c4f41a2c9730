"""Tells which library a detector's weights belong to, from what they look like and what the configuration says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from motserve.config import DetectorConfig
from motserve.errors import InvalidConfig, WeightsUnavailable
from motserve.models.downloads import EFFICIENTDET, TORCHVISION
from motserve.models.weights import Weights

Family = Literal["ultralytics", "torchvision", "efficientdet", "transformers"]

_STATE_DICTS = (".pth", ".safetensors")
_OWN = "yolo"
"""How the architectures of motserve's own `.safetensors` begin."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How weights are loaded.

    Attributes:
        family: The library.
        architecture: Its name of the network; empty where the weights tell it to the library themselves.
    """

    family: Family
    architecture: str = ""


def tell_family(config: DetectorConfig, weights: Weights) -> Choice:
    """Tell how weights are loaded; this is the one place that decides it.

    A folder with a `config.json` is a model of transformers. A `.pth` or `.safetensors` file holds nothing but arrays:
    its architecture is `detector.architecture`, the `architecture` in the metadata of a `.safetensors`, or the one that
    the file's name begins with. A `.safetensors` whose metadata names a YOLO is motserve's own, and everything else is
    left to Ultralytics.

    Args:
        config: `architecture` is used.
        weights: What shall be loaded; of a `.safetensors` the header is read.

    Raises:
        InvalidConfig: The architecture is not known, or none is told.
        WeightsUnavailable: The file is no `.safetensors`, whatever its name says.
    """
    path = weights.path
    if path.is_dir():
        return Choice("transformers" if (path / "config.json").is_file() else "ultralytics")
    if path.suffix not in _STATE_DICTS:
        return Choice("ultralytics")
    told = read_metadata(path).get("architecture", "") if path.suffix == ".safetensors" else ""
    if told.startswith(_OWN):
        return Choice("ultralytics", told)
    architecture = config.architecture or _known(told) or _known(path.stem)
    if architecture in TORCHVISION:
        return Choice("torchvision", architecture)
    if architecture in EFFICIENTDET:
        return Choice("efficientdet", architecture)
    problem = f"{architecture} is not known" if architecture else f"is needed, for {path} does not tell it"
    raise InvalidConfig(f"detector.architecture {problem}; known are {', '.join(TORCHVISION + EFFICIENTDET)}")


def read_metadata(path: Path) -> dict[str, str]:
    """Return what the header of a `.safetensors` says beside the arrays.

    Raises:
        WeightsUnavailable: The file is broken.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except Exception as error:
        raise WeightsUnavailable(f"{path} is no .safetensors file ({type(error).__name__}: {error})") from error


def _known(text: str) -> str:
    """Return the longest known architecture that a text begins with, up to a separator, or nothing."""
    known = (a for a in TORCHVISION + EFFICIENTDET if text.startswith(a) and not text[len(a) :][:1].isalnum())
    return max(known, key=len, default="")

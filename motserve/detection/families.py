"""Identifies the library of a detector's weights, from the file and the configuration."""

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
_MOTSERVE_PREFIXES = ("yolo", "nanodet")
"""Prefixes of the architecture in motserve's own `.safetensors`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How weights are loaded.

    Attributes:
        family: The library.
        architecture: The library's name of the network; empty where the library reads it from the weights.
    """

    family: Family
    architecture: str = ""


def identify_family(config: DetectorConfig, weights: Weights) -> Choice:
    """Return how weights are loaded; this is the only place that decides it.

    A folder with a `config.json` is a model of transformers. A `.pth` or `.safetensors` file holds only arrays: its
    architecture is `detector.architecture`, the `architecture` in the metadata of a `.safetensors`, or the one that the
    file's name begins with. A `.safetensors` whose metadata names a YOLO is motserve's own. Anything else is loaded by
    Ultralytics.

    Args:
        config: `architecture` is used.
        weights: The weights; of a `.safetensors` the header is read.

    Raises:
        InvalidConfig: The architecture is not known or not given.
        WeightsUnavailable: The file is not a `.safetensors` despite its name.
    """
    path = weights.path
    if path.is_dir():
        return Choice("transformers" if (path / "config.json").is_file() else "ultralytics")
    if path.suffix not in _STATE_DICTS:
        return Choice("ultralytics")
    declared = read_metadata(path).get("architecture", "") if path.suffix == ".safetensors" else ""
    if declared.startswith(_MOTSERVE_PREFIXES):
        return Choice("ultralytics", declared)
    architecture = config.architecture or _known(declared) or _known(path.stem)
    if architecture in TORCHVISION:
        return Choice("torchvision", architecture)
    if architecture in EFFICIENTDET:
        return Choice("efficientdet", architecture)
    problem = f"{architecture} is not known" if architecture else f"is needed: {path} does not name it"
    raise InvalidConfig(f"detector.architecture {problem}; known are {', '.join(TORCHVISION + EFFICIENTDET)}")


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata in the header of a `.safetensors`.

    Raises:
        WeightsUnavailable: The file is broken.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except Exception as error:
        raise WeightsUnavailable(f"{path} is not a .safetensors file ({type(error).__name__}: {error})") from error


def _known(text: str) -> str:
    """Return the longest known architecture that a text begins with, up to a separator, or nothing."""
    known = (a for a in TORCHVISION + EFFICIENTDET if text.startswith(a) and not text[len(a) :][:1].isalnum())
    return max(known, key=len, default="")

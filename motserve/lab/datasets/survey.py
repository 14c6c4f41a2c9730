"""Result of checking a downloaded folder: what is missing, and how to write the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from motserve.lab.datasets.output import Output


@dataclass(frozen=True, slots=True)
class Survey:
    """A checked source, before anything is written.

    Attributes:
        root: The folder that the names of the source are relative to.
        left_out: A sentence for everything that a complete copy holds and this one does not. Without paths on this
            machine, as it goes into the manifest.
        pictures: How many pictures can be used.
        pictures_in: Whether they are linked into the output or stay in the source.
        folders: The folder below the root that each sequence comes from.
        options: The options that matter to this data set.
        write: Writes the output and returns what it holds, by split.
    """

    root: Path
    left_out: tuple[str, ...]
    pictures: int
    pictures_in: Literal["output", "source"]
    folders: Mapping[str, str]
    options: Mapping[str, Any]
    write: Callable[[Output], dict[str, Any]]

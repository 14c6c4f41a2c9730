"""Result of checking a downloaded data set: its missing parts, and a function that writes the rest."""

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
        root: Source folder; names are relative to it.
        left_out: A sentence for each missing part, without paths on this machine, because the manifest contains it.
        pictures: Number of usable pictures.
        pictures_in: Whether they are linked into the output or stay in the source.
        folders: Folder below the root of each sequence.
        options: The options that affect this data set.
        write: Writes the output and returns its counts by split.
    """

    root: Path
    left_out: tuple[str, ...]
    pictures: int
    pictures_in: Literal["output", "source"]
    folders: Mapping[str, str]
    options: Mapping[str, Any]
    write: Callable[[Output], dict[str, Any]]

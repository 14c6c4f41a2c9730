"""Options that commands share, and the reading of the configuration behind them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from motserve.config import Config, change_config, load_config, parse_overrides
from motserve.config.logs import setup_logging
from motserve.errors import InvalidConfig
from motserve.files.atomic import LONGEST_NAME
from motserve.files.disk import require_room
from motserve.files.yaml_reader import read_yaml


def writable_file(path: Path | None) -> Path | None:
    """Refuse a file that could not be written, before hours of work go into what would stand in it.

    Returns:
        The file; for a link what it leads to, because writing replaces what it writes to.

    Raises:
        typer.BadParameter: It is a folder or a device, or no folder for it can be made.
    """
    if path is None:
        return None
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise typer.BadParameter(f"{path.name[:_SHOWN]}… is a longer name than a file may have, {LONGEST_NAME} bytes")
    if path.exists() and not path.is_file():
        raise typer.BadParameter(f"{path} is a folder or a device, not a file")
    file = path.resolve() if path.is_symlink() else path
    writable_folder(file.parent)
    return file


def writable_folder(path: Path) -> Path:
    """Refuse a folder that could not be made or written to. Nothing is made yet: no work, no folder.

    Raises:
        typer.BadParameter: It cannot.
    """
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise typer.BadParameter(f"{there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{there} cannot be written to")
    return path


ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="YAML file with a part of the configuration; may be given several times."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One setting, such as detector.weights=a.pt; may be given several times."),
]

SequenceNames = Annotated[
    str | None, typer.Option("--sequences", help="Names of the sequences, separated by commas; all by default.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="File for the numbers and their stamp.", callback=writable_file)
]
UseMlflow = Annotated[bool, typer.Option("--mlflow", help="Log the run to MLflow, as the section mlflow says.")]

CandidateWeights = Annotated[
    list[str] | None, typer.Option("--weights", help="Weights of one candidate; may be given several times.")
]
CandidatesFile = Annotated[
    Path | None,
    typer.Option(
        "--candidates", help="YAML file: the name of each candidate, and what it changes in the configuration."
    ),
]

_LARGEST = 10_000_000
"""People and embeddings that a benchmark makes up, at the most; more fill the memory of most machines."""

_SHOWN = 40
"""Characters of a name that is too long to be shown."""

_QUIET: dict[str, Any] = {"logging": {"level": "WARNING", "format": "text"}}
"""In a terminal the progress bar tells how it goes; files, environment and `--set` win over this."""


def names_of(text: str | None) -> list[str]:
    """Split names separated by commas; None gives none."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def sizes_of(text: str, option: str) -> list[int]:
    """Return the sizes, from 1 to ten million, in a list separated by commas.

    Raises:
        BadParameter: The text is no such list.
    """
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 30,100", param_hint=option) from error
    if min(sizes) < 1 or max(sizes) > _LARGEST:
        raise typer.BadParameter(f"each size must be at least 1 and at most {_LARGEST:,}", param_hint=option)
    return sizes


def choose_candidates(
    settings: Config, section: str, weights: list[str] | None, path: Path | None
) -> dict[str, Config]:
    """Return what is compared: what a file names, each of some weights, or the configuration as it is.

    Args:
        settings: The configuration.
        section: `detector` or `reid`, whose weights are meant.
        weights: Weights, each a candidate named after them.
        path: File of candidates.

    Raises:
        InvalidConfig: The file is not valid, or a name stands for two candidates.
    """
    candidates = read_candidates(path, settings, [section]) if path else {}
    for name in weights or ():
        label = Path(name).name
        if label in candidates:
            raise InvalidConfig(f"two candidates are named {label}; give them names with --candidates")
        candidates[label] = change_config(settings, {section: {"weights": [name]}})
    return candidates or {Path(getattr(settings, section).weights[0]).name: settings}


def read_candidates(path: Path, settings: Config, sections: Collection[str]) -> dict[str, Config]:
    """Read what is compared: each candidate is the configuration with some keys changed.

    Args:
        path: The file.
        settings: The configuration.
        sections: What may be changed; the rest is the same for all, or has no effect on what is compared.

    Raises:
        InvalidConfig: The file is no such mapping, or a change is not valid or not allowed.
    """
    try:
        tree = read_yaml(path)
    except (OSError, yaml.YAMLError) as error:
        raise InvalidConfig(f"cannot read candidates from {path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict) or not tree or not all(isinstance(changes, dict) for changes in tree.values()):
        raise InvalidConfig(f"{path} must name candidates, each with a mapping of what it changes: `name: {{key: …}}`")
    candidates = {}
    for name, changes in tree.items():
        idle = [key for key in changes if key not in sections]
        if idle:
            raise InvalidConfig(
                f"{path}, candidate {name}: {', '.join(map(str, idle))} cannot differ between candidates; what can is "
                f"{' and '.join(sections)}"
            )
        try:
            candidates[str(name)] = change_config(settings, changes)
        except InvalidConfig as error:
            raise InvalidConfig(f"{path}, candidate {name}: {error}") from error
    return candidates


def read_config(
    layers: Sequence[Path | Mapping[str, Any]] | None, overrides: list[str] | None, writes: Iterable[Path | None] = ()
) -> Config:
    """Build the configuration from files, or mappings, and settings, and set up the logs by it.

    Args:
        layers: The files and mappings; later ones win.
        overrides: What `--set` says.
        writes: Where the command writes its results, which may take hours to make.

    Raises:
        InvalidConfig: The configuration is not valid.
        DiskFull: There is less room for the results than `disk.min_free_bytes`.
    """
    config = load_config([_QUIET, *(layers or [])], parse_overrides(overrides or []))
    setup_logging(config.logging)
    for place in writes:
        if place is not None:
            require_room(place, config.disk.min_free_bytes, "disk.min_free_bytes")
    return config

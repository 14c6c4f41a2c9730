"""Options that commands share, and the loading of the configuration from them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motserve.errors import InvalidConfig
from motserve.files.atomic import LONGEST_NAME
from motserve.files.disk import require_room
from motserve.files.yaml_reader import read_yaml
from motserve.models.extras import require_installed

if TYPE_CHECKING:
    from motserve.config import Config


def writable_file(path: Path | None) -> Path | None:
    """Refuse an output file that cannot be written, before hours of work produce its content.

    Returns:
        The file; for a link its target, because writing replaces the file.

    Raises:
        typer.BadParameter: It is a folder or a device, its name is too long, or its folder cannot be made.
    """
    if path is None:
        return None
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise typer.BadParameter(
            f"{path.name[:_SHOWN]}… is too long for a file name; the limit is {LONGEST_NAME} bytes"
        )
    if path.exists() and not path.is_file():
        raise typer.BadParameter(f"{path} is a folder or a device, not a file")
    file = path.resolve() if path.is_symlink() else path
    writable_folder(file.parent)
    return file


def writable_folder(path: Path) -> Path:
    """Refuse a folder that cannot be made or written to. The folder is not made yet.

    Raises:
        typer.BadParameter: The folder cannot be made or written to.
    """
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir():
        raise typer.BadParameter(f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{nearest} cannot be written to")
    return path


def _with_mlflow_only(requested: bool) -> bool:
    """Refuse to log a run without MLflow, before hours of work."""
    if requested:
        require_installed("mlflow", "train", "--mlflow")
    return requested


ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML file with a part of the configuration, or the name of a shipped one, such as "
        "tracker/botsort; may be given several times.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One setting, such as detector.weights=a.pt; may be given several times."),
]

SequenceNames = Annotated[
    str | None, typer.Option("--sequences", help="Names of the sequences, separated by commas; all by default.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="JSON file for the numbers and their provenance.", callback=writable_file)
]
UseMlflow = Annotated[
    bool,
    typer.Option(
        "--mlflow", help="Log the run to MLflow, as configured in section mlflow.", callback=_with_mlflow_only
    ),
]

Policies = Annotated[
    str,
    typer.Option(
        "--policies", help="Re-identification policies, separated by commas: off, on_demand, interval, always."
    ),
]
Rerank = Annotated[bool, typer.Option("--rerank", help="Score k-reciprocal re-ranking as well.")]
CandidateWeights = Annotated[
    list[str] | None, typer.Option("--weights", help="Weights of a candidate; may be given several times.")
]
CandidatesFile = Annotated[
    Path | None,
    typer.Option(
        "--candidates", help="YAML file that maps the name of each candidate to its changes of the configuration."
    ),
]

_LARGEST = 10_000_000
"""Maximum number of synthetic people or embeddings; more fill the memory of most machines."""

_SHOWN = 40
"""Characters shown of a name that is too long."""

_QUIET: dict[str, Any] = {"logging": {"level": "WARNING", "format": "text"}}
"""Log defaults of the command line, where a progress bar is shown; files, environment and `--set` override them."""


def names_of(text: str | None) -> list[str]:
    """Split names separated by commas; None gives an empty list."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def sizes_of(text: str, option: str) -> list[int]:
    """Return the sizes, from 1 to ten million, in a list separated by commas.

    Raises:
        typer.BadParameter: The text is not such a list.
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
    """Return the candidates: those of a file, one for each of the weights, or else the configuration itself.

    Args:
        settings: The configuration.
        section: Section of the weights, `detector` or `reid`.
        weights: Weights; each makes a candidate with the file's name.
        path: File of candidates.

    Raises:
        InvalidConfig: The file is not valid, or two candidates have the same name.
    """
    from motserve.config import change_config

    candidates = read_candidates(path, settings, [section]) if path else {}
    for name in weights or ():
        label = Path(name).name
        if label in candidates:
            raise InvalidConfig(f"two candidates are named {label}; give them names with --candidates")
        candidates[label] = change_config(settings, {section: {"weights": [name]}})
    return candidates or {Path(getattr(settings, section).weights[0]).name: settings}


def read_candidates(path: Path, settings: Config, sections: Collection[str]) -> dict[str, Config]:
    """Read a file of candidates, each the configuration with some keys changed.

    Args:
        path: The file, or the name of a shipped one such as `compare/detectors`.
        settings: The configuration.
        sections: Sections that a candidate may change; the others are the same for all candidates.

    Raises:
        InvalidConfig: The file is not such a mapping, or a change is not valid or not allowed.
    """
    import yaml

    from motserve.config import change_config
    from motserve.config.loading.shipped import config_file

    path = config_file(path)
    try:
        tree = read_yaml(path)
    except (OSError, yaml.YAMLError) as error:
        raise InvalidConfig(f"cannot read candidates from {path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict) or not tree or not all(isinstance(changes, dict) for changes in tree.values()):
        raise InvalidConfig(f"{path} must name candidates, each with a mapping of what it changes: `name: {{key: …}}`")
    candidates = {}
    for name, changes in tree.items():
        fixed = [key for key in changes if key not in sections]
        if fixed:
            raise InvalidConfig(
                f"{path}, candidate {name}: {', '.join(map(str, fixed))} cannot differ between candidates; only "
                f"{' and '.join(sections)} can"
            )
        try:
            candidates[str(name)] = change_config(settings, changes)
        except InvalidConfig as error:
            raise InvalidConfig(f"{path}, candidate {name}: {error}") from error
    return candidates


def read_config(
    layers: Sequence[Path | Mapping[str, Any]] | None,
    overrides: list[str] | None,
    writes: Iterable[Path | None] = (),
    *,
    model: str | None = None,
    tracker: str | None = None,
) -> Config:
    """Build the configuration from layers and overrides, and set up logging.

    Args:
        layers: The files and mappings; later ones win.
        overrides: Values of `--set`.
        writes: Paths of the command's results; their disks are checked before hours of work.
        model: Weights of the detector; see `choose_config`.
        tracker: Name of a tracker, or a YAML file with its section.

    Raises:
        InvalidConfig: The configuration is not valid.
        DiskFull: Less than `disk.min_free_bytes` is free for the results.
    """
    from motserve.config import choose_config
    from motserve.config.logs import setup_logging

    config = choose_config([_QUIET, *(layers or [])], model=model, tracker=tracker, overrides=overrides or [])
    setup_logging(config.logging)
    for place in writes:
        if place is not None:
            require_room(place, config.disk.min_free_bytes, "disk.min_free_bytes")
    return config

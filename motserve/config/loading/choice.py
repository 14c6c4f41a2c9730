"""Builds the configuration from the arguments of the Python functions and from the short options of commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motserve.config.tracker import TRACKERS
from motserve.config.tree import (
    Config,
    Layer,
    change_config,
    load_config,
    merge_layers,
    parse_overrides,
    read_layer,
)
from motserve.errors import InvalidConfig

_YAML = (".yaml", ".yml")


def choose_config(
    config: Config | Layer | Sequence[Layer] | None = None,
    *,
    model: str | Path | Sequence[str | Path] | None = None,
    tracker: str | Path | None = None,
    overrides: str | Sequence[str] = (),
) -> Config:
    """Return a configuration with some choices laid over it.

    Args:
        config: A configuration, or its layers: YAML files or mappings, later ones win. None for the defaults. Layers
            get the environment variables on top; a finished configuration has them already.
        model: Weights of the detector, short for `detector.weights`.
        tracker: Name of a tracker, or a YAML file with its section.
        overrides: Settings such as `reid.policy=off`; they win over everything else.

    Raises:
        InvalidConfig: A file cannot be read, a key is unknown or a value out of its bounds.
    """
    changes: dict[str, Any] = {}
    if model is not None:
        changes = {"detector": {"weights": _names(model)}}
    if tracker is not None:
        changes = merge_layers(changes, _tracker_layer(tracker))
    changes = merge_layers(changes, parse_overrides(_assignments(overrides)))
    if isinstance(config, Config):
        return change_config(config, changes)
    return load_config([] if config is None else config, changes)


def _names(model: Any) -> list[str]:
    """Return the names of weights as texts, which may be paths."""
    names = list(model) if isinstance(model, list | tuple) else [model]
    bad = [name for name in names if not isinstance(name, str | os.PathLike)]
    if bad:
        raise InvalidConfig(f"model must be the name or the path of weights, or a list of them, not {bad[0]!r:.80}")
    return [os.fsdecode(name) for name in names]


def _tracker_layer(tracker: object) -> dict[str, Any]:
    if isinstance(tracker, str) and tracker in TRACKERS:
        return {"tracker": {"name": tracker}}
    if not isinstance(tracker, str | Path):
        raise InvalidConfig(f"tracker must be the name of a tracker or a YAML file, not {tracker!r:.80}")
    if Path(tracker).suffix.lower() not in _YAML:
        raise InvalidConfig(f"there is no tracker {str(tracker)!r}; choose {', '.join(TRACKERS)} or a YAML file")
    tree = dict(read_layer(tracker))
    if "tracker" not in tree:
        raise InvalidConfig(f"{tracker} has no section `tracker`")
    return tree


def _assignments(overrides: object) -> list[str]:
    """Return overrides as a list; a single text is one override."""
    assignments = [overrides] if isinstance(overrides, str) else overrides
    if not isinstance(assignments, list | tuple) or not all(isinstance(text, str) for text in assignments):
        raise InvalidConfig(f"overrides must be texts such as 'reid.policy=off', not {overrides!r:.80}")
    return list(assignments)

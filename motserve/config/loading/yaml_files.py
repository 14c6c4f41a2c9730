"""Reads settings from YAML files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from motserve.config.base import Section
from motserve.config.loading.shipped import config_file
from motserve.errors import InvalidConfig
from motserve.files.yaml_reader import read_yaml

Settings = TypeVar("Settings", bound=Section)


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """Read settings from YAML; missing keys have their defaults.

    Args:
        path: The file.
        kind: Class of the settings.

    Raises:
        InvalidConfig: The file cannot be read, a key is unknown or a value out of its bounds.
    """
    return layer_settings([path], {}, kind)


def layer_settings(paths: Sequence[Path], overrides: Mapping[str, Any], kind: type[Settings]) -> Settings:
    """Read settings from YAML files; later ones win over earlier ones.

    Args:
        paths: The files, at least one.
        overrides: A part of the tree that wins over all of them.
        kind: Class of the settings.

    Raises:
        InvalidConfig: A file cannot be read, a key is unknown or a value out of its bounds.
    """
    tree: dict[str, Any] = {}
    names = ", ".join(map(str, paths))
    try:
        for path in paths:
            tree = merge(tree, read_tree(path))
        return kind(**merge(tree, overrides))
    except (TypeError, ValidationError) as error:
        raise InvalidConfig(f"configuration file {names} is not valid: {' '.join(str(error).split())}") from error


def merge(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    replaces: Callable[[str, Mapping[str, Any], Mapping[str, Any]], bool] | None = None,
) -> dict[str, Any]:
    """Lay one tree of settings over another.

    Args:
        below: The lower tree.
        above: The upper tree, whose values win.
        replaces: Called with a key and the mappings of both trees; returns whether the upper one replaces the lower one
            instead of being merged with it. None merges always.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = value
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not (replaces and replaces(key, old, value)):
            merged[key] = merge(old, value, replaces)
    return merged


def read_tree(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file; an empty file is an empty mapping.

    Args:
        path: The file, or the name of a shipped one such as `tracker/botsort`.

    Raises:
        InvalidConfig: The file cannot be read, or is not a mapping; see `parse_yaml` for what is refused.
    """
    path = config_file(path)
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise InvalidConfig(f"cannot read configuration file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidConfig(f"configuration file {path} is not valid: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InvalidConfig(f"configuration file {path} must hold a mapping, not a {type(tree).__name__}")
    return tree

"""Paths from configurations, commands and training jobs: `~` is expanded, invalid ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

_SQLITE = "sqlite:///"


def local_path(text: str | Path) -> Path:
    """Return the path of a text, with a leading `~` or `~user` replaced by the home folder.

    Args:
        text: The path; `./~name` is a file of that name.

    Returns:
        The path. It never begins with `~`, so that no later step takes such a file for a home folder.

    Raises:
        ValueError: The text is empty, contains a zero byte, or names a user that this machine does not know.
    """
    if not str(text):
        raise ValueError("a path cannot be empty; . is the current folder")
    if "\0" in str(text):
        raise ValueError("a path cannot contain a zero byte")
    if str(text).startswith("~"):
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            name = Path(text).parts[0]
            raise ValueError(
                f"{name} is not a home folder on this machine; write ./{name} for a file of that name"
            ) from error
    path = Path(text)
    return Path.cwd() / path if str(path).startswith("~") else path


def _path(value: Any) -> Any:
    if not isinstance(value, str | Path):
        raise ValueError("a path must be a text; YAML reads a bare ~ as null, ~/ is the home folder")
    return local_path(value)


def _name_or_path(value: str) -> str:
    if not value:
        raise ValueError("a name or a path cannot be empty")
    return str(local_path(value)) if value.startswith("~") else value


def _names_or_paths(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_name_or_path, values))


def _store(value: str) -> str:
    """Expand `~` in the path of an SQLite address, which databases do not do."""
    path = value.removeprefix(_SQLITE)
    if not path.startswith("~"):
        return value
    path, mark, query = path.partition("?")
    return f"{value.removesuffix(value.removeprefix(_SQLITE))}{local_path(path)}{mark}{query}"


LocalPath = Annotated[Path, BeforeValidator(_path)]
"""A path on this machine."""

NameOrPath = Annotated[str, AfterValidator(_name_or_path)]
"""A text that may be a path on this machine, such as the name of weights or an address of storage."""

expand_names = AfterValidator(_names_or_paths)
"""Validator of a field with several names or paths."""

StoreAddress = Annotated[str, AfterValidator(_store)]
"""The address of a store, such as `sqlite:///PATH`."""

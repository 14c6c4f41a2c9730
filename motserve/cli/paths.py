"""Parsing of paths on the command line, the same for every argument and option of every command."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import typer
from typer.models import ParameterInfo

from motserve.errors import InvalidConfig
from motserve.files.addresses import address_advice, is_web_address
from motserve.models.credentials import without_credentials


def read_path(text: str | Path) -> Path:
    """Return the path that a command-line argument names, with `~` replaced by the home folder.

    Raises:
        typer.BadParameter: It is empty, or begins with `~` and an unknown user name.
        InvalidConfig: It is a URL.
    """
    from motserve.config.paths import local_path

    advice = address_advice(str(text))
    if advice is not None:
        raise InvalidConfig(f"{without_credentials(str(text))}: {advice}")
    try:
        return local_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def read_source(text: str) -> str | Path:
    """Return the source of a video: an HTTP address as it is, or the path that the argument names.

    Raises:
        typer.BadParameter: See `read_path`.
        InvalidConfig: It is another URL.
    """
    return text if is_web_address(text) else read_path(text)


def read_paths(app: typer.Typer) -> None:
    """Make `read_path` parse every path parameter of an application.

    It is applied to all registered commands, so that no option can be forgotten.
    """
    for command in app.registered_commands:
        function: Any = command.callback
        hints = inspect.get_annotations(function, eval_str=True)
        for hint in hints.values():
            kind, *metadata = get_args(hint) if hasattr(hint, "__metadata__") else (None,)  # an Annotated type
            for info in metadata:
                if isinstance(info, ParameterInfo) and _is_path(kind):
                    info.parser = read_path
        function.__annotations__ = hints  # string annotations would be evaluated again, without the parser
    for group in app.registered_groups:
        if group.typer_instance is not None:
            read_paths(group.typer_instance)


def _is_path(kind: Any) -> bool:
    return bool(kind == Path) or any(_is_path(part) for part in get_args(kind))

"""Loads a command when it is called: the help of `motserve` must not import Ray, PyTorch and SciPy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from motserve.cli.paths import read_paths


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is defined.

    Attributes:
        module: Name of the module.
        name: Name in the module of the command's function, or of the `typer.Typer` of its subcommands.
        help: First line of the command's help, shown in the list of commands; a test compares the two.
    """

    module: str
    name: str
    help: str

    def load(self) -> Any:
        """Import the function or the `typer.Typer`."""
        return getattr(importlib.import_module(self.module), self.name)


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called. Subclasses say where they are.

    Until then each is represented by its name and a line of help, enough for the list of commands, for completion and
    for the correction of a misspelt name.
    """

    places: Mapping[str, Place]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, place in self.places.items():
            self.commands[name] = TyperCommand(name, help=place.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the representation of the command that is called by the command."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.places:
            command = load_command(name, self.places[name])
        return name, command, rest


def load_command(name: str, place: Place) -> Any:
    """Return a command with all its options, ready to be called."""
    group: Any = typer.main.get_command(load_application(name, place))
    return group.commands[name]


def load_application(name: str, place: Place) -> typer.Typer:
    """Return an application that has only this command; its paths are parsed as everywhere."""
    target = place.load()
    application = typer.Typer(add_completion=False)
    application.callback()(_group)
    if isinstance(target, typer.Typer):
        application.add_typer(target, name=name)
    else:
        application.command(name)(target)
    read_paths(application)
    return application


def _group() -> None:
    """Do nothing: with a callback, an application of one command is a group."""

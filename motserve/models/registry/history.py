"""The history of a model's alias moves, and the rollback of a move."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Literal

import orjson

from motserve.config.registry import Alias
from motserve.files.names import to_json

Way = Literal["promote", "force", "rollback"]

HISTORY: Final = "history"
"""Tag of a model that stores its moves."""

MOST_REASON: Final = 500
"""Longest stored reason in characters."""

_TAG_CHARACTERS: Final = 5000
"""Longest tag of a model in PostgreSQL and MySQL, in characters; SQLite and MLflow itself allow more."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias.

    Attributes:
        at: When, ISO 8601, UTC.
        alias: Which alias.
        before: The previous version of the alias; None if it had none.
        after: The new version of the alias.
        way: `promote` if the gate passed, `force` if it did not, or `rollback`.
        by: The user of the operating system.
        reason: The reason given by the user.
    """

    at: str
    alias: Alias
    before: int | None
    after: int
    way: Way
    by: str
    reason: str = ""


def read_history(text: str) -> list[Move]:
    """Read moves from a tag."""
    return [Move(**move) for move in orjson.loads(text)]


def write_history(moves: list[Move]) -> str:
    """Write moves as a tag; the oldest are dropped if they do not fit."""
    while len(text := to_json([asdict(one) for one in moves]).decode()) > _TAG_CHARACTERS:
        moves = moves[1:]
    return text


def version_before(moves: Iterable[Move], alias: Alias, present: int | None) -> int | None:
    """Return the previous version of an alias, or None if it is unknown.

    Args:
        moves: The stored moves, oldest first.
        alias: The alias.
        present: Its current version; None for none.
    """
    stack: list[int] = []
    for move in moves:
        if move.alias != alias:
            continue
        _reconcile(stack, move.before)
        if move.way == "rollback":
            stack = stack[:-1] or [move.after]
        else:
            stack.append(move.after)
    _reconcile(stack, present)
    return stack[-2] if len(stack) > 1 else None


def user() -> str:
    """Return the user of the operating system, who moves an alias."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers may run as users without a name
        return str(os.getuid())


def _reconcile(stack: list[int], present: int | None) -> None:
    """Reconcile earlier versions of an alias with its current one, after an incomplete or unrecorded move."""
    if present in stack:
        del stack[len(stack) - stack[::-1].index(present) :]
    elif present is not None:
        stack.append(present)

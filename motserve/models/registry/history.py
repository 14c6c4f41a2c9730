"""The moves of a model's aliases: what is remembered of them, and the way back."""

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
"""Tag of a model with its moves."""

MOST_REASON: Final = 500
"""Characters that are remembered of a reason."""

_TAG_CHARACTERS: Final = 5000
"""Characters of a tag of a model that PostgreSQL and MySQL store; SQLite and MLflow itself would take more."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias.

    Attributes:
        at: When, ISO 8601, UTC.
        alias: Which alias.
        before: The version it was on; None where it was on none.
        after: The version it is on since.
        way: `promote` through the gate, `force` past it, or `rollback`.
        by: The user of the operating system.
        reason: What was said about it.
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
    """Write moves as a tag, without the oldest where they would not fit."""
    while len(text := to_json([asdict(one) for one in moves]).decode()) > _TAG_CHARACTERS:
        moves = moves[1:]
    return text


def version_before(moves: Iterable[Move], alias: Alias, present: int | None) -> int | None:
    """Return the version that an alias was on before, or None where nothing is known of it.

    Args:
        moves: All that is remembered, the oldest first.
        alias: The alias.
        present: The version that it is on; None for none.
    """
    stack: list[int] = []
    for move in moves:
        if move.alias != alias:
            continue
        _put_right(stack, move.before)
        if move.way == "rollback":
            stack = stack[:-1] or [move.after]
        else:
            stack.append(move.after)
    _put_right(stack, present)
    return stack[-2] if len(stack) > 1 else None


def user() -> str:
    """Return who moves an alias."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run as users whom the system does not know
        return str(os.getuid())


def _put_right(stack: list[int], present: int | None) -> None:
    """Bring versions that an alias was on into line with the one that it is on: a move was not completed, or unseen."""
    if present in stack:
        del stack[len(stack) - stack[::-1].index(present) :]
    elif present is not None:
        stack.append(present)

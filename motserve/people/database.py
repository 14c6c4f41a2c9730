"""Opens the SQLite files that several processes of the service share, and keeps their tables at one version."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

from motserve.errors import IncompatibleStore

_BUSY_TIMEOUT_S = 30.0
_VARIABLES = 500  # placeholders in one statement; old builds of SQLite take 999

Migration: TypeAlias = tuple[str, ...]
"""The statements that lead from one version of a file's tables to the next."""


def migrate(path: Path, steps: Sequence[Migration]) -> None:
    """Bring the tables of a file to the version that this code knows, in one transaction.

    The version is the number of steps that a file has behind it, kept in its `user_version`. A change of the tables is
    one more step at the end, such as `("ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",)`; a step
    that was released is never changed, because files have it behind them.

    Args:
        path: The file; made where it does not exist, its folder too.
        steps: All steps since the empty file. The first may meet tables that are there already: files that were
            written before versions were counted have version 0.

    Raises:
        IncompatibleStore: The file has a later version, or is no database; it is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with transaction(path) as database:
            if _checked_version(database, path, len(steps)) == len(steps):
                return
            database.execute("BEGIN IMMEDIATE")
            done = _checked_version(database, path, len(steps))  # another process may have been faster
            for step in steps[done:]:
                for statement in step:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {len(steps)}")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # a lock, a full disk: nothing is wrong with the file
            raise
        raise IncompatibleStore(f"{path} is no store of motserve: {error}; put it away or restore a backup") from error


def _checked_version(database: sqlite3.Connection, path: Path, known: int) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise IncompatibleStore(
            f"{path} has tables of version {version}, and this motserve knows them up to {known}: a later release has "
            "written them. Run that release or a newer one, or restore a backup that was made before the upgrade"
        )
    return version


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database, commit what the block has done or undo it where the block raises, and close.

    A connection for each transaction, because connections do not cross threads and opening one takes well under a
    millisecond. Writers of other processes are waited for.

    Args:
        path: The file; made where it does not exist.

    Yields:
        A connection whose rows know their columns by name; it takes the lock of the writer at the first change.
    """
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level="IMMEDIATE")) as database:
        database.row_factory = sqlite3.Row
        with database:
            yield database


def select_by_id(database: sqlite3.Connection, query: str, ids: Collection[int | str]) -> list[sqlite3.Row]:
    """Return the rows of however many IDs, in statements that any build of SQLite takes.

    Args:
        database: The connection.
        query: `SELECT … FROM …`, without a condition, from a table whose key is `id`.
        ids: The IDs; those that do not exist have no row.
    """
    wanted = list(ids)
    rows: list[sqlite3.Row] = []
    for start in range(0, len(wanted), _VARIABLES):
        part = wanted[start : start + _VARIABLES]
        rows += database.execute(f"{query} WHERE id IN ({', '.join('?' * len(part))})", part)
    return rows


def stored_path(path: str | Path) -> str | bytes:
    """Return a path as a column takes it: a text, or the bytes of one that is not UTF-8; `os.fsdecode` reads both."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text

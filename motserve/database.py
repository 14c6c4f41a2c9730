"""Opens the SQLite files that several processes of the service share."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_BUSY_TIMEOUT_S = 30.0
_VARIABLES = 500  # placeholders in one statement; old builds of SQLite take 999


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

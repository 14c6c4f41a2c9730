"""Opens the SQLite files that several processes of the service share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_BUSY_TIMEOUT_S = 30.0


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

"""Opens the SQLite files that several processes of the service share, and migrates their tables."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from motserve.errors import IncompatibleStore
from motserve.files.disk import is_locked

logger = logging.getLogger("motserve.people")

BUSY_TIMEOUT_S: Final = 30.0
"""Seconds that a transaction waits for the lock of another process, unless its caller wants an answer earlier."""
_OPENING_TIMEOUT_S: Final = 600.0
"""Seconds that a process waits at its start for a locked file; without the file it can do nothing."""
_VARIABLES: Final = 500  # placeholders in one statement; old builds of SQLite take 999

Migration: TypeAlias = tuple[str, ...]
"""The SQL statements from one version of a file's tables to the next."""


def migrate(path: Path, steps: Sequence[Migration]) -> None:
    """Migrate the tables of a file to the version of this code, in one transaction.

    The version is the number of steps that were applied to a file, stored in its `user_version`. A change of the tables
    is one more step at the end, such as `("ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",)`; a
    released step is never changed, because it was applied to existing files.

    Args:
        path: The file; created with its folder if it does not exist.
        steps: All steps from the empty file. The tables of the first may exist already: files that were written before
            versions were counted have version 0.

    Raises:
        IncompatibleStore: The file has a later version, or is not a database; it is not changed.
        sqlite3.OperationalError: The file cannot be opened, or is locked for ten minutes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _wait_for_lock(path)
        with transaction(path, _OPENING_TIMEOUT_S, create=True) as database:
            if _checked_version(database, path, len(steps)) == len(steps):
                return
            database.execute("BEGIN IMMEDIATE")
            version = _checked_version(database, path, len(steps))  # another process may have migrated it meanwhile
            for step in steps[version:]:
                for statement in step:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {len(steps)}")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # a lock or a full disk: the file itself is sound
            raise
        raise IncompatibleStore(
            f"{path} is no store of motserve: {error}; move it elsewhere or restore a backup"
        ) from error


def _wait_for_lock(path: Path) -> None:
    """Log it if a file is locked for long; the caller then waits on."""
    try:
        with transaction(path, create=True) as database:
            database.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        if not is_locked(error):
            raise
        logger.warning("%s is locked by another process; waiting for up to %.0f s more", path, _OPENING_TIMEOUT_S)


def _checked_version(database: sqlite3.Connection, path: Path, known: int) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise IncompatibleStore(
            f"{path} has tables of version {version}, and this motserve supports versions up to {known}: "
            "a later release wrote them. Run that release or a newer one, or restore a backup that was "
            "made before the upgrade"
        )
    return version


@contextmanager
def transaction(
    path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S, create: bool = False
) -> Iterator[sqlite3.Connection]:
    """Open a database, commit the changes of the block or roll them back if it raises, and close.

    Each transaction has its own connection, because connections cannot be shared by threads and opening one takes well
    under a millisecond. It waits for writers of other processes.

    Args:
        path: The file.
        busy_timeout_s: Seconds to wait for the lock of another process.
        create: Whether to create the file if it does not exist. A store that has vanished with its disk must not be
            replaced by an empty one.

    Yields:
        A connection whose rows have columns by name; it takes the write lock at the first change.

    Raises:
        sqlite3.OperationalError: The file is locked, missing, read-only or damaged; the message begins with its name.
    """
    address = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    try:
        with closing(sqlite3.connect(address, busy_timeout_s, isolation_level="IMMEDIATE", uri=True)) as database:
            database.row_factory = sqlite3.Row
            with database:
                yield database
    except sqlite3.OperationalError as error:
        raise sqlite3.OperationalError(f"{path.name}: {error}") from error


def select_by_id(database: sqlite3.Connection, query: str, ids: Collection[int | str]) -> list[sqlite3.Row]:
    """Return the rows of any number of IDs, in statements that any build of SQLite accepts.

    Args:
        database: The connection.
        query: `SELECT … FROM …`, without a condition, from a table whose key is `id`.
        ids: The IDs; those that do not exist have no row in the result.
    """
    all_ids = list(ids)
    rows: list[sqlite3.Row] = []
    for start in range(0, len(all_ids), _VARIABLES):
        batch = all_ids[start : start + _VARIABLES]
        rows += database.execute(f"{query} WHERE id IN ({', '.join('?' * len(batch))})", batch)
    return rows


def stored_path(path: str | Path) -> str | bytes:
    """Return a path as stored in a column: text, or bytes if it is not UTF-8; `os.fsdecode` reads both."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text

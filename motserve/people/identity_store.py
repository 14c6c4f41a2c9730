"""Stores people of finished videos in one SQLite file that all processes of the service share.

A row for each identity holds its embeddings and its thumbnail. The number of a row is never reused, so it separates
new rows from known ones; a table of removals, numbered likewise, lists removed rows. With both, any number of
processes can keep a copy synchronised (see `IdentityIndex`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from motserve.errors import NotFound
from motserve.people.database import BUSY_TIMEOUT_S, Migration, migrate, select_by_id, transaction
from motserve.people.identity_summaries import IdentitySummary
from motserve.types import FloatArray

_REMOVALS_KEPT = 100_000
"""Removals that a copy may be behind before it must be loaded again; 3 MB of the file."""

IDENTITIES_FILE: Final = "identities.sqlite"
IDENTITIES_STEPS: Final[tuple[Migration, ...]] = (
    (
        "CREATE TABLE IF NOT EXISTS identities ("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, video_id TEXT NOT NULL, identity INTEGER NOT NULL, "
        "first_seen_s REAL NOT NULL, last_seen_s REAL NOT NULL, model TEXT NOT NULL, "
        "count INTEGER NOT NULL, embeddings BLOB NOT NULL, thumbnail BLOB NOT NULL, UNIQUE (video_id, identity))",
        "CREATE INDEX IF NOT EXISTS of_model ON identities (model, id)",
        "CREATE TABLE IF NOT EXISTS removals (sequence INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL)",
        "CREATE TRIGGER IF NOT EXISTS removal AFTER DELETE ON identities "
        "BEGIN INSERT INTO removals (id) VALUES (old.id); END",
    ),
)
"""Migrations of the tables; a change is a new step at the end, see `migrate`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A stored person.

    Attributes:
        id: Number in the index; never reused.
        video_id: The video.
        identity: Number of the person in the video.
        first_seen_s: Presentation time in seconds of the first embedding.
        last_seen_s: Presentation time in seconds of the last embedding.
        model: Key of the model of the embeddings; those of different models cannot be compared.
    """

    id: int
    video_id: str
    identity: int
    first_seen_s: float
    last_seen_s: float
    model: str


@dataclass(frozen=True, slots=True)
class Removals:
    """The removals since a point in time.

    Attributes:
        ids: The removed identities.
        sequence: The present point, for the next call.
        complete: Whether no removal is missing; old removals are deleted.
    """

    ids: list[int]
    sequence: int
    complete: bool


class IdentityStore:
    """People of finished videos in one SQLite file, safe to use from several processes of one machine.

    Args:
        root: Folder of the file; created if it does not exist.
        max_identities: Most stored identities; beyond it those of the oldest video are removed.
        busy_timeout_s: Seconds that a call waits while another process locks the file; then it raises
            `sqlite3.OperationalError`.
    """

    def __init__(self, root: Path, max_identities: int, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = root / IDENTITIES_FILE
        self._max_identities = max_identities
        self._busy_timeout_s = busy_timeout_s
        migrate(self._path, IDENTITIES_STEPS)

    def put(self, video_id: str, model: str, summaries: Sequence[IdentitySummary]) -> None:
        """Store the people of a video in place of those stored of it before, in one transaction.

        Args:
            video_id: The video.
            model: Key of the model of the embeddings.
            summaries: The people, at most `max_identities`.
        """
        rows = [
            (
                video_id, p.identity, p.first_seen_s, p.last_seen_s, model,
                len(p.embeddings), p.embeddings.astype(np.float16).tobytes(), p.thumbnail,
            )
            for p in summaries
        ]  # fmt: skip
        with self._transaction() as database:
            _delete(database, [video_id])
            database.executemany(
                "INSERT INTO identities (video_id, identity, first_seen_s, last_seen_s, model, count, embeddings, "
                "thumbnail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._evict(database)

    def remove(self, video_ids: Iterable[str]) -> None:
        """Remove all people of some videos; a video without people is no error."""
        with self._transaction() as database:
            _delete(database, video_ids)

    def get(self, identity_id: int) -> Identity:
        """Return an identity.

        Raises:
            NotFound: There is none with this number.
        """
        identities = self.get_many([identity_id])
        if not identities:
            raise NotFound(f"there is no identity {identity_id} in the index; it may have been deleted with its video")
        return identities[identity_id]

    def get_many(self, identity_ids: Collection[int]) -> dict[int, Identity]:
        """Return identities by number; removed ones are missing."""
        with self._transaction() as database:
            rows = select_by_id(database, f"SELECT {_COLUMNS} FROM identities", identity_ids)
        return {row["id"]: Identity(*row) for row in rows}

    def find(self, video_id: str, identity: int) -> Identity:
        """Return an identity by the number it has in its video.

        Raises:
            NotFound: It is not stored.
        """
        with self._transaction() as database:
            row = database.execute(
                f"SELECT {_COLUMNS} FROM identities WHERE video_id = ? AND identity = ?", [video_id, identity]
            ).fetchone()
        if row is None:
            raise NotFound(
                f"identity {identity} of video {video_id} is not in the index: the video has no such identity, it was "
                "never visible enough to be embedded, or it was removed to make room for others"
            )
        return Identity(*row)

    def of_video(self, video_id: str) -> set[int]:
        """Return the numbers of all stored people of a video."""
        with self._transaction() as database:
            return {row[0] for row in database.execute("SELECT id FROM identities WHERE video_id = ?", [video_id])}

    def embeddings(self, identity_id: int) -> FloatArray:
        """Return the `(k, d)` float32 embeddings of an identity.

        Raises:
            NotFound: There is none with this number.
        """
        with self._transaction() as database:
            row = database.execute("SELECT count, embeddings FROM identities WHERE id = ?", [identity_id]).fetchone()
        if row is None:
            raise NotFound(f"there is no identity {identity_id} in the index")
        return _embeddings(row)

    def thumbnail(self, identity_id: int) -> bytes:
        """Return the JPEG of an identity.

        Raises:
            NotFound: There is none with this number.
        """
        with self._transaction() as database:
            row = database.execute("SELECT thumbnail FROM identities WHERE id = ?", [identity_id]).fetchone()
        if row is None:
            raise NotFound(f"there is no identity {identity_id} in the index")
        return bytes(row[0])

    def videos(self) -> set[str]:
        """Return the videos with stored people."""
        with self._transaction() as database:
            return {row[0] for row in database.execute("SELECT DISTINCT video_id FROM identities")}

    def counts(self) -> dict[str, int]:
        """Return the number of stored identities of each model."""
        with self._transaction() as database:
            return dict(database.execute("SELECT model, count(*) FROM identities GROUP BY model").fetchall())

    def added(self, model: str, after: int, limit: int) -> list[tuple[int, FloatArray]]:
        """Return numbers and `(k, d)` float32 embeddings of up to `limit` identities, by rising number.

        Args:
            model: Key of the model of the embeddings.
            after: Only numbers greater than this.
            limit: Most identities returned.
        """
        with self._transaction() as database:
            rows = database.execute(
                "SELECT id, count, embeddings FROM identities WHERE model = ? AND id > ? ORDER BY id LIMIT ?",
                [model, after, limit],
            ).fetchall()
        return [(row["id"], _embeddings(row)) for row in rows]

    def removed(self, after: int) -> Removals:
        """Return the identities of all models that were removed after a point in time, 0 for the beginning."""
        with self._transaction() as database:
            (oldest,) = database.execute("SELECT min(sequence) FROM removals").fetchone()
            rows = database.execute("SELECT sequence, id FROM removals WHERE sequence > ?", [after]).fetchall()
        complete = oldest is None or after >= oldest - 1
        return Removals([row["id"] for row in rows], max((row["sequence"] for row in rows), default=after), complete)

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._path, self._busy_timeout_s)

    def _evict(self, database: sqlite3.Connection) -> None:
        """Remove the people of the oldest videos until there is room for the rest."""
        (count,) = database.execute("SELECT count(*) FROM identities").fetchone()
        while count > self._max_identities:
            (oldest,) = database.execute("SELECT video_id FROM identities ORDER BY id LIMIT 1").fetchone()
            count -= _delete(database, [oldest])


_COLUMNS = ", ".join(Identity.__slots__)


def _delete(database: sqlite3.Connection, video_ids: Iterable[str]) -> int:
    """Delete the people of videos permanently, and return their number."""
    # without this, thumbnails of people would stay readable in free pages of the file
    database.execute("PRAGMA secure_delete = ON")
    count = 0
    for video_id in video_ids:
        count += database.execute("DELETE FROM identities WHERE video_id = ?", [video_id]).rowcount
    database.execute(
        "DELETE FROM removals WHERE sequence <= (SELECT max(sequence) FROM removals) - ?", [_REMOVALS_KEPT]
    )
    return count


def _embeddings(row: sqlite3.Row) -> FloatArray:
    return np.frombuffer(row["embeddings"], np.float16).reshape(row["count"], -1).astype(np.float32)

"""The job store: one row per video in SQLite, shared by all processes of the service."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from motserve.errors import NotFound, Overloaded
from motserve.files.names import to_json
from motserve.people.database import BUSY_TIMEOUT_S, Migration, migrate, select_by_id, stored_path, transaction

Status = Literal["queued", "running", "done", "failed"]
ACTIVE: tuple[Status, ...] = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Job:
    """The state of one video.

    Attributes:
        id: The video's ID.
        name: File name that the client gave.
        source: Path of the video.
        created_at: Seconds since the epoch.
        status: `queued`, `running`, `done` or `failed`.
        frames_done: Frames tracked.
        frames_total: Frames of the video; None if its container does not state it.
        fps: Frames tracked per second of work.
        identities: Different people so far.
        video: Width, height, frame rate and so on; None until the session has opened the video.
        models: Weights in use; None until the session has loaded them.
        classes: Name of each class index of the detector; None until the session has loaded it.
        embeddings: Embeddings computed.
        links: Returning people who got their previous identity.
        frames_damaged: Frames that could not be decoded, or were decoded with damage.
        error: Why the video failed: `type` and `message`; None unless it failed.
        attempt: Number of the session that has the video, from 0. Only this session may write.
        restarts: Number of lost sessions after which the video was restarted.
        heartbeat: Last heartbeat of the session in seconds since the epoch; 0 if it released the video.
        losses: How each lost session since the post, or the last retry, ended.
        began: Whether the session of this attempt has written a heartbeat itself; until then it may wait for a CPU.
        actor: Name of the actor of this attempt if it was started before the video came; empty for an actor of its own.
    """

    id: str
    name: str
    source: str
    created_at: float
    status: Status = "queued"
    frames_done: int = 0
    frames_total: int | None = None
    fps: float = 0.0
    identities: int = 0
    video: dict[str, Any] | None = None
    models: dict[str, Any] | None = None
    classes: dict[str, str] | None = None
    embeddings: int = 0
    links: int = 0
    frames_damaged: int = 0
    error: dict[str, str] | None = None
    attempt: int = 0
    restarts: int = 0
    heartbeat: float = 0.0
    losses: list[str] = field(default_factory=list)
    began: bool = False
    actor: str = ""


_COLUMNS = [column.name for column in fields(Job)]
_CHECK_TIMEOUT_S: Final = 1.0
_JSON_COLUMNS = frozenset({"video", "models", "classes", "error", "losses"})

JOBS_FILE: Final = "jobs.sqlite"
JOBS_STEPS: Final[tuple[Migration, ...]] = (
    (
        "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, name TEXT NOT NULL, source TEXT NOT NULL, "
        "created_at REAL NOT NULL, status TEXT NOT NULL, frames_done INTEGER NOT NULL, frames_total INTEGER, "
        "fps REAL NOT NULL, identities INTEGER NOT NULL, video TEXT, models TEXT, classes TEXT, "
        "embeddings INTEGER NOT NULL, links INTEGER NOT NULL, error TEXT)",
        "CREATE INDEX IF NOT EXISTS newest ON jobs (created_at DESC, id DESC)",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN heartbeat REAL NOT NULL DEFAULT 0",
    ),
    ("ALTER TABLE jobs ADD COLUMN frames_damaged INTEGER NOT NULL DEFAULT 0",),
    (
        "ALTER TABLE jobs ADD COLUMN began INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN losses TEXT NOT NULL DEFAULT '[]'",
    ),
    ("ALTER TABLE jobs ADD COLUMN actor TEXT NOT NULL DEFAULT ''",),
)
"""Migrations of the table; append one for a new column, see `migrate`."""


class JobStore:
    """A table of jobs in one SQLite file, safe for several processes.

    Args:
        root: Folder of the file; created if it does not exist.
        clock: Seconds since the epoch.
        busy_timeout_s: Seconds that a call waits while another process locks the file; then it raises
            `sqlite3.OperationalError`.
    """

    def __init__(
        self, root: Path, clock: Callable[[], float] = time.time, busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> None:
        self._path = root / JOBS_FILE
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        migrate(self._path, JOBS_STEPS)

    def add(self, job: Job, max_active: int, retry_after_s: int) -> None:
        """Add a job, unless the limit of active jobs is reached.

        Raises:
            Overloaded: `max_active` jobs are queued or running.
        """
        row = _to_row(job)
        with self._transaction() as database:
            _admit(database, max_active, retry_after_s)
            database.execute(
                f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",
                [row[name] for name in _COLUMNS],
            )

    def get(self, video_id: str) -> Job:
        """Return a job.

        Raises:
            NotFound: No job has this ID.
        """
        with self._transaction() as database:
            row = database.execute("SELECT * FROM jobs WHERE id = ?", [video_id]).fetchone()
        if row is None:
            raise NotFound(f"there is no video {video_id}")
        return _from_row(row)

    def get_many(self, video_ids: Collection[str]) -> dict[str, Job]:
        """Return jobs by ID; IDs without a job are left out."""
        with self._transaction() as database:
            rows = select_by_id(database, "SELECT * FROM jobs", video_ids)
        return {row["id"]: _from_row(row) for row in rows}

    def write(self, video_id: str, attempt: int, **changes: Any) -> bool:
        """Change some columns as the session of an attempt; each call also writes a heartbeat.

        Returns:
            Whether the attempt still has the video. If not, or if the video was deleted, nothing is changed.
        """
        return self._change(video_id, attempt, {"heartbeat": self._clock(), **changes})

    def retry(self, job: Job, max_active: int, retry_after_s: int, actor: str = "") -> Job | None:
        """Queue a failed video again, for its next attempt, unless the limit of active jobs is reached.

        Args:
            job: The job as it was read.
            max_active: See `add`.
            retry_after_s: See `add`.
            actor: See `Job`.

        Returns:
            The job of the new attempt; None if it is not failed any more.

        Raises:
            Overloaded: `max_active` jobs are queued or running.
        """
        changes: dict[str, Any] = {
            "status": "queued", "attempt": job.attempt + 1, "restarts": 0, "heartbeat": self._clock(), "began": False,
            "losses": [], "error": None, "frames_done": 0, "actor": actor,
        }  # fmt: skip
        row = _encoded(changes)
        with self._transaction() as database:
            _admit(database, max_active, retry_after_s)
            cursor = database.execute(
                f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in row)} "
                "WHERE id = ? AND attempt = ? AND status = 'failed'",
                [*row.values(), job.id, job.attempt],
            )
        return replace(job, **changes) if cursor.rowcount == 1 else None

    def take_over(self, job: Job, loss: str = "", actor: str = "") -> Job | None:
        """Give a video to its next attempt, unless another caller has done so or its session is alive.

        Args:
            job: The job as it was read.
            loss: How its session ended; empty if it released the video.
            actor: See `Job`.

        Returns:
            The job of the new attempt; None if the job has changed since it was read.
        """
        lost = job.heartbeat > 0
        restarted = replace(
            job,
            attempt=job.attempt + 1,
            restarts=job.restarts + lost,
            heartbeat=self._clock(),
            began=False,
            losses=[*job.losses, loss] if loss else job.losses,
            actor=actor,
        )
        changed = ("attempt", "restarts", "heartbeat", "began", "losses", "actor")
        row = {name: getattr(restarted, name) for name in changed}
        return restarted if self._change(job.id, job.attempt, row, job.heartbeat) else None

    def give_up(self, job: Job, error: dict[str, str]) -> bool:
        """Mark a video as failed because its session was lost, unless the session is alive.

        Args:
            job: The job as it was read.
            error: `type` and `message`.

        Returns:
            Whether it was marked.
        """
        return self._change(job.id, job.attempt, {"status": "failed", "error": error}, job.heartbeat)

    def delete(self, video_id: str) -> None:
        """Remove a job.

        Raises:
            NotFound: No job has this ID.
        """
        with self._transaction() as database:
            if not database.execute("DELETE FROM jobs WHERE id = ?", [video_id]).rowcount:
                raise NotFound(f"there is no video {video_id}")

    def page(self, limit: int, after: str | None = None) -> list[Job]:
        """Return up to `limit` jobs, newest first, that come after the job `after`.

        Raises:
            NotFound: The job `after` does not exist.
        """
        query, values = "SELECT * FROM jobs", list[Any]()
        if after is not None:
            last = self.get(after)
            query += " WHERE (created_at, id) < (?, ?)"
            values += [last.created_at, last.id]
        with self._transaction() as database:
            rows = database.execute(f"{query} ORDER BY created_at DESC, id DESC LIMIT ?", [*values, limit]).fetchall()
        return [_from_row(row) for row in rows]

    def active(self) -> list[Job]:
        """Return the jobs that are queued or running."""
        with self._transaction() as database:
            rows = database.execute("SELECT * FROM jobs WHERE status IN (?, ?)", ACTIVE).fetchall()
        return [_from_row(row) for row in rows]

    def check(self) -> None:
        """Take the lock that a change needs, and release it; wait for it for a second at most.

        Raises:
            sqlite3.OperationalError: The file is locked, missing or read-only.
        """
        with transaction(self._path, _CHECK_TIMEOUT_S) as database:
            database.execute("SELECT 1 FROM jobs LIMIT 1")
            database.execute("BEGIN IMMEDIATE")
            database.rollback()

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._path, self._busy_timeout_s)

    def _change(self, video_id: str, attempt: int, changes: Mapping[str, Any], heartbeat: float | None = None) -> bool:
        """Change columns of an active job if it still has this attempt and, if given, this heartbeat."""
        row = _encoded(changes)
        condition, values = "id = ? AND attempt = ? AND status IN (?, ?)", [video_id, attempt, *ACTIVE]
        if heartbeat is not None:
            condition, values = f"{condition} AND heartbeat = ?", [*values, heartbeat]
        with self._transaction() as database:
            cursor = database.execute(
                f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in row)} WHERE {condition}",
                [*row.values(), *values],
            )
        return cursor.rowcount == 1


def _admit(database: sqlite3.Connection, max_active: int, retry_after_s: int) -> None:
    """Lock the table, and refuse a further active job beyond the limit."""
    database.execute("BEGIN IMMEDIATE")  # by default sqlite3 locks at the first change, after the count
    (active,) = database.execute("SELECT count(*) FROM jobs WHERE status IN (?, ?)", ACTIVE).fetchone()
    if active >= max_active:
        raise Overloaded(f"{active} videos are active, the most that this service accepts; try later", retry_after_s)


def _to_row(job: Job) -> dict[str, Any]:
    return _encoded({**asdict(job), "source": stored_path(job.source)})


def _encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_json(value) if name in _JSON_COLUMNS else value for name, value in values.items()}


def _from_row(row: sqlite3.Row) -> Job:
    # by name: a later release that works on the same file may have added columns
    values = {name: row[name] for name in _COLUMNS} | {
        "source": os.fsdecode(row["source"]),
        "began": bool(row["began"]),
    }
    return Job(**{n: orjson.loads(v) if n in _JSON_COLUMNS and v is not None else v for n, v in values.items()})

"""Backups of the service's storage: made while the service runs, and restored into the folder of a new service.

SQLite itself copies the stores, page by page under its locks, so a copy is the store at one moment. Jobs come first and
people last: for a video that is `done` in the copy, files and people were complete before. An active video is copied
as far as it is tracked, its checkpoint before its tracks; a service that is started on the copy resumes it.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from motserve.errors import Conflict, IncompatibleStore, NotFound
from motserve.files.atomic import write_json
from motserve.files.disk import require_room
from motserve.people.database import migrate, stored_path, transaction
from motserve.people.identity_store import IDENTITIES_FILE, IDENTITIES_STEPS, IdentityStore
from motserve.serving.inference.active_models import ACTIVE_MODELS_FILE, ACTIVE_MODELS_STEPS
from motserve.serving.stores import JOBS_FILE, JOBS_STEPS, VIDEOS_FOLDER, ArtifactStore

logger = logging.getLogger("motserve.backup")

_MANIFEST: Final = "backup.json"
_LOCK_TIMEOUT_S: Final = 30.0  # of waiting for a writer
_STORES: Final = {JOBS_FILE: JOBS_STEPS, IDENTITIES_FILE: IDENTITIES_STEPS, ACTIVE_MODELS_FILE: ACTIVE_MODELS_STEPS}


@dataclass(frozen=True, slots=True)
class Backup:
    """Description of a backup; the same is in its `backup.json`, which is written last.

    Attributes:
        version: The release of motserve that made it.
        made_at: When it was started, seconds since the epoch.
        storage_dir: The folder that was copied; paths of uploads in the job store start with it.
        stores: Table version of each store in the backup.
        videos: Number of videos.
        bytes: Size of all files except `backup.json`.
    """

    version: str
    made_at: float
    storage_dir: str
    stores: dict[str, int]
    videos: int
    bytes: int


def back_up(storage: Path, target: Path, release: str) -> Backup:
    """Copy stores and videos of a service, which may be running, into a new folder.

    Args:
        storage: `serving.storage_dir` of the service.
        target: Folder of the backup; must not exist, or be empty.
        release: The release of motserve, recorded in the backup.

    Raises:
        NotFound: The storage has no job store.
        Conflict: The target is not empty.
        DiskFull: The target has not enough space.
        OSError: The target cannot be written to. It then has no `backup.json` and cannot be restored.
    """
    storage, target = storage.absolute(), target.absolute()
    if not (storage / JOBS_FILE).is_file():
        raise NotFound(
            f"{storage} is not the storage of a service: it has no {JOBS_FILE}; is serving.storage_dir right?"
        )
    require_room(target, _size(storage), "the size of the storage")
    _make_empty(target)
    started_at = time.time()
    _copy_store(storage / JOBS_FILE, target / JOBS_FILE)
    videos = _videos(target / JOBS_FILE)
    deleted = [video for video in videos if not _copy_video(storage, target, video)]
    for name in (IDENTITIES_FILE, ACTIVE_MODELS_FILE):
        if (storage / name).is_file():
            _copy_store(storage / name, target / name)
    _forget(target, deleted)
    versions = {name: _version(target / name) for name in _STORES if (target / name).is_file()}
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    backup = Backup(release, started_at, str(storage), versions, len(videos) - len(deleted), size)
    write_json(target / _MANIFEST, asdict(backup))
    logger.info("backup made", extra={"videos": backup.videos, "bytes": size, "deleted_meanwhile": len(deleted)})
    return backup


def restore(source: Path, storage: Path) -> Backup:
    """Copy a backup into the storage folder of a service to be started, and migrate its tables.

    Args:
        source: Folder of the backup; it is not changed.
        storage: `serving.storage_dir` of the service; must not exist, or be empty.

    Raises:
        NotFound: The source is no backup.
        IncompatibleStore: The backup is incomplete, or a later release made it; nothing is written.
        Conflict: The storage is not empty.
        DiskFull: The storage has not enough space.
    """
    source, storage = source.absolute(), storage.absolute()
    backup = _read(source)
    require_room(storage, backup.bytes, "the size of the backup")
    _make_empty(storage)
    for name in backup.stores:
        _copy_store(source / name, storage / name)
        migrate(storage / name, _STORES[name])
    if (source / VIDEOS_FOLDER).is_dir():
        shutil.copytree(source / VIDEOS_FOLDER, storage / VIDEOS_FOLDER)
    _move_sources(storage, Path(backup.storage_dir))
    logger.info("backup restored", extra={"videos": backup.videos, "storage_dir": str(storage)})
    return backup


def _read(source: Path) -> Backup:
    """Read `backup.json`, and check that the backup is complete and not of a later release."""
    manifest = source / _MANIFEST
    if not manifest.is_file():
        raise NotFound(f"{source} is no backup, or was not finished: it has no {_MANIFEST}")
    try:
        backup = Backup(**orjson.loads(manifest.read_bytes()))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise IncompatibleStore(f"{manifest} cannot be read: {error}") from error
    for name in backup.stores:
        if name not in _STORES:
            raise IncompatibleStore(f"{manifest} names a store {name!r} that this motserve does not know")
        if not (source / name).is_file():
            raise IncompatibleStore(f"{source / name} is missing: the backup is incomplete")
        version, supported = _version(source / name), len(_STORES.get(name, ()))
        if version > supported:
            raise IncompatibleStore(
                f"{source / name} has tables of version {version}, and this motserve supports up to {supported}: "
                f"restore with motserve {backup.version} or later"
            )
    for path in source.rglob("*"):
        if path.is_symlink():
            raise IncompatibleStore(f"{path} is a link, and a backup must have none")
    size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file() and file != manifest)
    if size != backup.bytes:
        raise IncompatibleStore(f"{source} has {size:,} bytes of {backup.bytes:,}: the backup is incomplete")
    return backup


def _size(storage: Path) -> int:
    """Return the approximate size of a storage in bytes; the service may remove files meanwhile."""
    size = 0
    for file in storage.rglob("*"):
        with suppress(OSError):
            size += file.stat().st_size if file.is_file() else 0
    return size


def _make_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is not empty; name a folder that does not exist or is empty")
    folder.mkdir(parents=True, exist_ok=True)


def _copy_store(path: Path, target: Path) -> None:
    """Copy a store as it is at one moment, even while other processes write to it."""
    # not read-only: if the service was killed inside a transaction, SQLite has to roll it back first
    live = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_LOCK_TIMEOUT_S)
    try:
        with closing(live), closing(sqlite3.connect(target)) as copy:
            live.backup(copy)  # all pages in one step: writers wait, and the copy never restarts
    except sqlite3.Error as error:
        raise IncompatibleStore(f"{path} cannot be copied: {error}") from error


def _version(path: Path) -> int:
    """Return the table version of a store after a check of all its pages.

    Raises:
        IncompatibleStore: It is damaged.
    """
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
            version: int = database.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise IncompatibleStore(f"{path} is damaged: {error}") from error
    if result != "ok":
        raise IncompatibleStore(f"{path} is damaged: {result}")
    return version


def _videos(jobs: Path) -> list[str]:
    with transaction(jobs) as database:
        return [row["id"] for row in database.execute("SELECT id FROM jobs ORDER BY created_at")]


def _copy_video(storage: Path, target: Path, video_id: str) -> bool:
    """Copy the files of a video; return whether the video still existed after the last file."""
    folder = storage / VIDEOS_FOLDER / video_id
    copy = target / VIDEOS_FOLDER / video_id
    copy.mkdir(parents=True)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in files:
        if file.name.startswith("."):  # a partial file, renamed when complete
            continue
        with suppress(FileNotFoundError):  # a checkpoint is removed when the video is done
            shutil.copy2(file, copy / file.name)
    if folder.is_dir():
        return True
    shutil.rmtree(copy)  # deleted meanwhile: the backup must not keep any of it
    return False


def _forget(target: Path, video_ids: Collection[str]) -> None:
    """Delete videos from the copies of the stores."""
    if not video_ids:
        return
    with transaction(target / JOBS_FILE) as database:
        database.execute("PRAGMA secure_delete = ON")
        database.executemany("DELETE FROM jobs WHERE id = ?", [[video] for video in video_ids])
    if (target / IDENTITIES_FILE).is_file():
        IdentityStore(target, max_identities=1).remove(video_ids)  # the limit applies to additions only


def _move_sources(storage: Path, before: Path) -> None:
    """Change the source paths of uploads to the new storage folder; paths of other folders stay."""
    old, new = ArtifactStore(before), ArtifactStore(storage)
    with transaction(storage / JOBS_FILE) as database:
        rows = [(row["id"], row["source"]) for row in database.execute("SELECT id, source FROM jobs")]
        moved = [
            [stored_path(new.source(video)), video]
            for video, source in rows
            if source == stored_path(old.source(video))
        ]
        database.executemany("UPDATE jobs SET source = ? WHERE id = ?", moved)

"""Free space on disks: checked before work begins; errors of full disks are recognised."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from motserve.errors import DiskFull

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No block is free, the quota of the user is used up, or a file has reached the largest allowed size."""

_UNUSABLE: Final = {
    errno.EROFS: "is read-only",
    errno.EACCES: "may not be written to",
    errno.EPERM: "may not be written to",
    errno.EIO: "cannot be read or written",
    **dict.fromkeys((errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE), "is not there"),
    **dict.fromkeys((errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH), "does not answer"),
}

_SQLITE_LOCKED: Final = "locked"
_SQLITE_UNUSABLE: Final = {
    _SQLITE_LOCKED: "is locked by another process",
    "readonly database": "is read-only",
    "unable to open database file": "is not there",
    "no such table": "has lost its tables",
    "disk I/O error": "cannot be read or written",
}
"""Parts of messages of SQLite, and what they say about a store."""

_SQLITE_FULL: Final = "database or disk is full"


def is_full(error: BaseException) -> bool:
    """Return whether an error means that a disk is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return isinstance(error, sqlite3.OperationalError) and _SQLITE_FULL in str(error)


def is_locked(error: BaseException) -> bool:
    """Return whether an error says that another process holds the lock of a database."""
    return isinstance(error, sqlite3.OperationalError) and _SQLITE_LOCKED in str(error)


def unusable(error: BaseException) -> str | None:
    """Return what is wrong with a disk or a store, as an error of it says; None for any other error.

    >>> unusable(OSError(errno.EROFS, "Read-only file system"))
    'is read-only'
    """
    if isinstance(error, OSError):
        return _UNUSABLE.get(error.errno or 0)
    if isinstance(error, sqlite3.OperationalError):
        return next((state for text, state in _SQLITE_UNUSABLE.items() if text in str(error)), None)
    return None


def free_bytes(place: Path) -> int:
    """Return the free space in bytes of the disk of a path, which need not exist."""
    existing = next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())
    usage = shutil.disk_usage(existing)
    return usage.free if usage.total else sys.maxsize  # some network file systems do not report it


def require_room(place: Path, least: int, setting: str) -> None:
    """Refuse work if there is too little free space for its results.

    Args:
        place: Path of the results; it need not exist.
        least: Required free space in bytes.
        setting: The configuration keys that this number comes from, for the message.

    Raises:
        DiskFull: Less space is free.
    """
    free = free_bytes(place)
    if free < least:
        raise DiskFull(
            f"{place}: {megabytes(free)} are free on its disk, but {megabytes(least)} are required ({setting}); free "
            "disk space or choose another place"
        )


@contextmanager
def translate_disk_full(place: Path) -> Iterator[None]:
    """Raise `DiskFull` with the path if the block fails because a disk is full.

    Raises:
        DiskFull: The block failed because a disk is full.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if not is_full(error):
            raise
        reason, where = _SQLITE_FULL, place
        if isinstance(error, OSError):
            reason = error.strerror or "no room left"
            file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else place
            where = (
                place if file.absolute().is_relative_to(place.absolute()) else file
            )  # temporary folders are elsewhere
        raise DiskFull(f"{where}: {reason}; free disk space and try again") from error


def annotated_size(source: Path, share: float) -> int:
    """Return the smallest expected size of an annotated copy in bytes; 0 where it is unknown.

    Args:
        source: The video; the size of an image folder says nothing about that of a video.
        share: `disk.annotated_share`.
    """
    return int(share * source.stat().st_size) if source.is_file() else 0


def megabytes(size: int) -> str:
    """Return a size in bytes as readable text.

    >>> megabytes(32 << 20), megabytes(12_000)
    ('33.6 MB', '12.0 kB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"

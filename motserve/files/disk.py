"""Room on disks: looked at before work begins, and a full disk told from other failures."""

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
"""No block is left, the quota of the user is used up, or a file has the largest size that it may have."""

_SQLITE_FULL: Final = "database or disk is full"


def is_full(error: BaseException) -> bool:
    """Tell whether something failed because there was no room on a disk."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return isinstance(error, sqlite3.OperationalError) and _SQLITE_FULL in str(error)


def free_bytes(place: Path) -> int:
    """Return the free space in bytes of the disk that a file or folder is on, or would be on."""
    there = next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())
    usage = shutil.disk_usage(there)
    return usage.free if usage.total else sys.maxsize  # some network file systems do not tell


def require_room(place: Path, least: int, setting: str) -> None:
    """Refuse work whose results would find no room.

    Args:
        place: Where the results go; it need not exist.
        least: Bytes that must be free.
        setting: The keys of the configuration behind this number.

    Raises:
        DiskFull: Less is free.
    """
    free = free_bytes(place)
    if free < least:
        raise DiskFull(
            f"{place}: {megabytes(free)} are free on its disk, and {megabytes(least)} are needed to begin ({setting}); "
            "make room or choose another place"
        )


@contextmanager
def naming_full(place: Path) -> Iterator[None]:
    """Say which place it is that has no room, where what is done in the block fails for that.

    Raises:
        DiskFull: Something in the block failed because there was no room on a disk.
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
        raise DiskFull(f"{where}: {reason}; make room and begin again") from error


def annotated_size(source: Path, share: float) -> int:
    """Return the bytes that an annotated copy of a video will take at the least; 0 where nothing tells it.

    Args:
        source: The video; pictures of a folder tell nothing, because each is a whole one.
        share: `disk.annotated_share`.
    """
    return int(share * source.stat().st_size) if source.is_file() else 0


def megabytes(size: int) -> str:
    """Return a size in bytes as people read it.

    >>> megabytes(32 << 20), megabytes(12_000)
    ('33.6 MB', '12.0 kB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"

"""Atomic writing of files: a reader never sees a partial file."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from motserve.files.disk import is_full
from motserve.files.names import to_json

_PART = ".part"

LONGEST_NAME = 220
"""Longest name of a result in bytes: file systems allow 255, and temporary files and stamps have longer names."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target; at the end it replaces the target, or is removed if writing failed.

    Raises:
        FileExistsError: The target exists and is not a regular file, such as a device.
    """
    if target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, "not a regular file", str(target))
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PART}")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        if is_full(error):  # writers give no name, or that of the temporary file
            error.filename, error.filename2 = str(target), None
        raise
    finally:
        partial.unlink(missing_ok=True)


def stale_temporary_files(folder: Path, pattern: str) -> Iterator[Path]:
    """Return the temporary files of `replacing` whose writers were killed.

    Args:
        folder: Folder of the target.
        pattern: Name of the target; `*` for any.
    """
    return folder.glob(f".{pattern}.*{_PART}")


def append_whole(file: BinaryIO, data: bytes) -> None:
    """Write data at the end of a file, completely or not at all.

    Args:
        file: An unbuffered file, positioned at its end.
        data: The bytes.

    Raises:
        OSError: The file cannot be written; it has its former length.
    """
    end, left = file.tell(), memoryview(data)
    try:
        while left:  # an unbuffered write may be partial, for example when the disk is nearly full
            left = left[file.write(left) :]
    except OSError:
        with suppress(OSError):  # the first error is the reason
            file.truncate(end)
            file.seek(end)
        raise


def write_json(target: Path, document: Any) -> None:
    """Write a document as indented JSON; a missing folder is created.

    Numbers that are not finite become null, because JSON has no such numbers. File names may have any bytes; see
    `to_json`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        partial.write_bytes(to_json(document, orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))

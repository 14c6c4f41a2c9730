"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from motserve.files.disk import is_full
from motserve.files.names import to_json

_PART = ".part"

LONGEST_NAME = 220
"""Bytes that the name of a result may have: disks take 255, and its temporary name and its stamp's are longer."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside the target; it takes the target's place at the end, or goes if writing failed.

    Raises:
        FileExistsError: The target is there and no regular file; a device must not be replaced by one.
    """
    if target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, "not a regular file", str(target))
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PART}")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        if is_full(error):  # writers tell no name, or that of the temporary file
            error.filename, error.filename2 = str(target), None
        raise
    finally:
        partial.unlink(missing_ok=True)


def left_over(folder: Path, pattern: str) -> Iterator[Path]:
    """Return what writers that were killed have left of `replacing` a target.

    Args:
        folder: Folder of the target.
        pattern: Name of the target, `*` for anything.
    """
    return folder.glob(f".{pattern}.*{_PART}")


def write_json(target: Path, document: Any) -> None:
    """Write a document as indented JSON, its folder made where it is missing.

    Numbers that are not finite, which JSON does not know, become null; so that any name of a file can be in it, see
    `to_json`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        partial.write_bytes(to_json(document, orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))

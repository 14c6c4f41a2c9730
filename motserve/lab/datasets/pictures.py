"""Finds pictures on disk and reads their sizes without decoding them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from motserve.errors import InvalidData
from motserve.files.folders import is_hidden
from motserve.files.names import encodable, readable
from motserve.video.images.image_header import IMAGE_SUFFIXES, image_file_size


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file.

    Attributes:
        path: Its path.
        bytes: Its size on disk.
    """

    path: Path
    bytes: int


def list_pictures(folder: Path) -> list[Picture]:
    """Return the pictures of a folder, sorted by name; hidden files are skipped.

    Raises:
        InvalidData: A name is not UTF-8, so lists of pictures, which are JSON and text, cannot contain it.
    """
    with os.scandir(folder) as entries:
        pictures = [
            Picture(folder / entry.name, entry.stat().st_size)
            for entry in entries
            if not is_hidden(entry.name) and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and entry.is_file()
        ]
    for picture in pictures:
        if encodable(picture.path.name) != picture.path.name:
            raise InvalidData(f"{readable(picture.path)}: the name is not UTF-8; rename the file")
    return sorted(pictures, key=lambda picture: picture.path.name)


def picture_size(picture: Picture) -> tuple[int, int] | None:
    """Return width and height in pixels, or None for an incomplete JPEG or PNG; mostly reads only the header."""
    with picture.path.open("rb") as file:
        return image_file_size(file, picture.bytes)


def list_some(names: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """List the first few names for a message.

    >>> list_some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def describe_contents(folder: Path) -> str:
    """Describe the content of a folder in a few names, for error messages."""
    entries = (entry for entry in folder.iterdir() if not is_hidden(entry.name))
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)
    return f"it holds {list_some(names, most=8)}" if names else "it is empty"

"""Lists the files of a folder, without hidden files and those that operating systems add."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

_SYSTEM_NAMES: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})  # in lower case

# fmt: off
VIDEO_SUFFIXES: Final = frozenset({
    ".3gp", ".asf", ".avi", ".dv", ".flv", ".gif", ".h264", ".hevc", ".ivf", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
"""Suffixes of video files, in lower case."""


def is_hidden(name: str) -> bool:
    """Return whether a name is hidden or reserved by an operating system.

    macOS adds `._000001.jpg`, which is not an image, beside `000001.jpg` on foreign file systems, and `__MACOSX` to
    archives; Windows adds `Thumbs.db`, network storage `@eaDir`.

    >>> [is_hidden(name) for name in ("._000001.jpg", "__MACOSX", "000001.jpg")]
    [True, True, False]
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def named(path: Path) -> Path:
    """Return a path that ends with the name of its file or folder: `.`, `..` and `folder/..` are resolved.

    >>> named(Path("videos/people.mp4")).name, named(Path("/tmp/..")).name
    ('people.mp4', '')
    """
    return path if path.name not in ("", "..") else path.resolve()


def visible_files(folder: Path, suffixes: Collection[str], below: bool = False) -> list[Path]:
    """Return the files of a folder sorted by path, without hidden files and files in hidden folders.

    Broken links are included: reading one is an error that names it, while skipping it would lose a file silently.

    Args:
        folder: The folder; its own path may be hidden.
        suffixes: Suffixes of the files in lower case; matched in any case.
        below: Also list subfolders.
    """
    paths = folder.rglob("*") if below else folder.iterdir()
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in suffixes
        and not any(map(is_hidden, path.relative_to(folder).parts))
        and (path.is_file() or (path.is_symlink() and not path.exists()))
    )

"""Lists the files of a folder, without those that systems leave beside what people put there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

_SYSTEM_NAMES: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})  # in lower case


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder has a name that people do not see.

    macOS leaves `._000001.jpg`, which is no picture, beside `000001.jpg` on other systems' disks, and `__MACOSX` in
    archives; Windows leaves `Thumbs.db`, network storage `@eaDir`.

    >>> [is_hidden(name) for name in ("._000001.jpg", "__MACOSX", "000001.jpg")]
    [True, True, False]
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def visible_files(folder: Path, suffixes: Collection[str], below: bool = False) -> list[Path]:
    """Return the files of a folder in order of their paths; hidden ones, and what hidden folders hold, are left out.

    A link that leads nowhere is among them: to read it is an error that names it, to pass over it a file less.

    Args:
        folder: The folder; its own path may be hidden.
        suffixes: The suffixes of the files, in lower case; the files may have them in any case.
        below: Also list the folders below.
    """
    paths = folder.rglob("*") if below else folder.iterdir()
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in suffixes
        and not any(map(is_hidden, path.relative_to(folder).parts))
        and (path.is_file() or (path.is_symlink() and not path.exists()))
    )

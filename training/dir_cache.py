"""Cached folders: filled once, and again when their inputs change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

_STAMP: Final = "settings.json"


def make_once(folder: Path, stamp: str, make: Callable[[], object]) -> None:
    """Fill a folder, unless it was filled before with the same stamp.

    Args:
        folder: The folder; it is emptied before it is filled again, and exists when `make` is called.
        stamp: Text of all inputs. It is written last, so an interrupted folder is filled again.
        make: Function that fills the folder.
    """
    file = folder / _STAMP
    if file.exists() and file.read_text(encoding="utf-8") == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make()
    file.write_text(stamp, encoding="utf-8")

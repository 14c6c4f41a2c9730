"""Folders of what takes long to make: made once, and anew when what it depends on has changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

_STAMP: Final = "settings.json"


def make_once(folder: Path, stamp: str, make: Callable[[], object]) -> None:
    """Fill a folder, unless it was filled with the same settings before.

    Args:
        folder: The folder; anything in it goes before it is filled anew. It is there when `make` is called.
        stamp: All that the content depends on. It is written last: what was not finished is done again.
        make: Fills it.
    """
    file = folder / _STAMP
    if file.exists() and file.read_text(encoding="utf-8") == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make()
    file.write_text(stamp, encoding="utf-8")

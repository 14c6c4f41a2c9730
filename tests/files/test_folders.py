from __future__ import annotations

import os
from pathlib import Path

from motserve.files.folders import visible_files


def names(folder: Path, below: bool = False) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in visible_files(folder, {".jpg", ".db"}, below)]


def test_files_of_operating_systems_are_skipped_and_all_others_listed(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "pictures"  # a hidden folder that is named is searched
    for name in ("b.JPG", "a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "notes.txt", "c/d.jpg", "c/._d.jpg",
                 "__MACOSX/c/e.jpg", ".thumbnails/f.jpg", "@eaDir/a.jpg"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "g.jpg").mkdir()
    assert names(folder) == ["a.jpg", "b.JPG"]
    assert names(folder, below=True) == ["a.jpg", "b.JPG", "c/d.jpg"]


def test_links_are_listed_even_if_broken_and_pipes_are_not(tmp_path: Path) -> None:
    (tmp_path / "there.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("there.jpg")
    (tmp_path / "dead.jpg").symlink_to("gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == ["dead.jpg", "link.jpg", "there.jpg"]

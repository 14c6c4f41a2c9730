from __future__ import annotations

import os
from pathlib import Path

from motserve.files.folders import visible_files


def names(folder: Path, below: bool = False) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in visible_files(folder, {".jpg", ".db"}, below)]


def test_what_systems_leave_is_passed_over_and_all_else_is_there(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "pictures"  # a hidden folder that is named is looked into
    for name in ("b.JPG", "a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "notes.txt", "c/d.jpg", "c/._d.jpg",
                 "__MACOSX/c/e.jpg", ".thumbnails/f.jpg", "@eaDir/a.jpg"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "g.jpg").mkdir()
    assert names(folder) == ["a.jpg", "b.JPG"]
    assert names(folder, below=True) == ["a.jpg", "b.JPG", "c/d.jpg"]


def test_a_link_is_listed_whether_it_leads_anywhere_or_not_and_a_pipe_is_not(tmp_path: Path) -> None:
    (tmp_path / "there.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("there.jpg")
    (tmp_path / "dead.jpg").symlink_to("gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == ["dead.jpg", "link.jpg", "there.jpg"]

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

import av
import pytest

from motserve.errors import DiskFull
from motserve.files.disk import annotated_size, free_bytes, is_full, require_room, translate_disk_full


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EFBIG, "File too large"), True),
        (av.error.OSError(errno.ENOSPC, "No space left on device", "a.mp4"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (OSError("odd"), False),
        (sqlite3.OperationalError("database is locked"), False),
        (ValueError("database or disk is full"), False),
    ],
)
def test_errors_of_a_full_disk_are_recognised(error: Exception, full: bool) -> None:
    assert is_full(error) is full


def test_free_bytes_of_a_missing_path_are_those_of_its_disk(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "none" / "at" / "all")
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 30
    require_room(tmp_path / "none", 0, "nothing")
    with pytest.raises(DiskFull, match=r"none: .* are free on its disk, but .* are required \(disk\.x\)"):
        require_room(tmp_path / "none", 1 << 60, "disk.x")


def test_a_full_disk_in_a_block_is_reported_with_the_path() -> None:
    with (
        pytest.raises(DiskFull, match=r"^out: No space left on device; free disk space"),
        translate_disk_full(Path("out")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    for file, named in (("out/.run/x.part", "out"), ("/tmp/x", "/tmp/x")):
        with pytest.raises(DiskFull, match=rf"^{named}: No space"), translate_disk_full(Path("out")):
            raise OSError(errno.ENOSPC, "No space left on device", file)
    with pytest.raises(DiskFull, match=r"^out: database or disk is full"), translate_disk_full(Path("out")):
        raise sqlite3.OperationalError("database or disk is full")
    with pytest.raises(PermissionError), translate_disk_full(Path("out")):
        raise OSError(errno.EACCES, "Permission denied")


def test_the_size_of_an_annotated_video_is_a_share_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    assert annotated_size(tmp_path / "a.mp4", 0.1) == 100
    assert annotated_size(tmp_path, 0.1) == annotated_size(tmp_path / "none", 0.1) == 0

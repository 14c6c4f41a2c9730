from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from motserve.files.atomic import replacing, write_json


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("older")
    with replacing(target) as partial:
        assert partial.parent == tmp_path
        partial.write_text("newer")
        assert target.read_text() == "older"
    assert target.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [target]


def fail_half_way(target: Path) -> None:
    with replacing(target) as partial:
        partial.write_text("ha")
        raise KeyboardInterrupt


@pytest.mark.parametrize("before", [[], ["a.json"]])
def test_a_failure_keeps_the_previous_file(tmp_path: Path, before: list[str]) -> None:
    for name in before:
        (tmp_path / name).write_text("older")
    with pytest.raises(KeyboardInterrupt):
        fail_half_way(tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == before
    assert all((tmp_path / name).read_text() == "older" for name in before)


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    with replacing(target) as first, replacing(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_writing_nothing_is_an_error_and_leaves_no_empty_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.json"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    device = tmp_path / "pipe"
    os.mkfifo(device)
    with pytest.raises(FileExistsError, match="pipe"), replacing(device):
        raise AssertionError("must not be reached")
    assert list(tmp_path.iterdir()) == [device]


def test_a_full_disk_names_the_file_and_not_its_temporary_one(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / ".a.json.1234.part"))
    with pytest.raises(OSError, match="No space") as caught, replacing(tmp_path / "a.json"):
        raise full
    assert caught.value.filename == str(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_documents_may_contain_names_of_any_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"video": os.fsdecode(b"caf\xe9")})
    assert (tmp_path / "a.json").read_text() == '{\n  "video": "caf\\\\xe9"\n}'

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from importlib import metadata
from itertools import permutations
from pathlib import Path

import numpy as np
import orjson
import pytest

from motserve import __version__
from motserve.config import load_config
from motserve.models.provenance import (
    LIBRARIES,
    describe_checkout,
    describe_files,
    describe_machine,
    stamp,
    stamp_of,
    write_stamp,
)

Git = Callable[..., str]


def write(folder: Path, **files: str) -> list[Path]:
    """Write files; `__` in a name is a slash and `_dot_` a dot."""
    paths = [folder / name.replace("__", "/").replace("_dot_", ".") for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_single_file_has_the_checksum_that_sha256sum_prints(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a_dot_txt="hello")
    printed = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
    assert describe_files([path]) == {"files": 1, "bytes": 5, "sha256": printed}


def test_several_files_have_the_checksum_of_the_output_of_sha256sum(tmp_path: Path) -> None:
    write(tmp_path, b_dot_txt="bee", a_dot_txt="hello", sub__c_dot_txt="")
    printed = subprocess.run(
        ["sha256sum", "a.txt", "b.txt", "sub/c.txt"], capture_output=True, cwd=tmp_path, check=True
    ).stdout
    described = describe_files([tmp_path], tmp_path)
    assert described == {"files": 3, "bytes": 8, "sha256": hashlib.sha256(printed).hexdigest()}


@pytest.mark.parametrize("with_root", [True, False])
def test_order_and_folder_do_not_change_the_checksum(tmp_path: Path, with_root: bool) -> None:
    def described(folder: Path, order: tuple[int, ...] = (0, 1, 2)) -> object:
        paths = write(folder, a_dot_txt="1", sub__b_dot_txt="22", sub__sub__c_dot_txt="333")
        return describe_files([paths[index] for index in order], folder if with_root else None)

    expected = described(tmp_path / "here")
    assert all(described(tmp_path / "here", order) == expected for order in permutations(range(3)))
    assert described(tmp_path / "there" / "deep") == expected
    assert describe_files([tmp_path / "here"], tmp_path / "here" if with_root else None) == expected


def test_names_and_contents_change_the_checksum(tmp_path: Path) -> None:
    files = {"a": "1", "b": "2"}
    variants = [files, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {"a": "1", "b": "2", "c": ""}, {"a": "1"}]
    seen = set()
    for number, variant in enumerate(variants):
        folder = tmp_path / str(number)
        write(folder, **variant)
        seen.add(describe_files([folder], folder)["sha256"])
    assert len(seen) == len(variants)


@pytest.mark.parametrize("changed", ["left__a", "right__a"])
def test_two_files_of_one_name_both_count(tmp_path: Path, changed: str) -> None:
    def described(**files: str) -> dict[str, object]:
        return describe_files(write(tmp_path, **files))

    files = {"left__a": "1", "right__a": "2"}
    before = described(**files)
    assert before["files"] == 2
    assert describe_files([tmp_path / "right" / "a", tmp_path / "left" / "a"]) == before
    assert described(**{**files, changed: "3"})["sha256"] != before["sha256"]


def test_files_of_one_name_in_a_folder_both_count(tmp_path: Path) -> None:
    write(tmp_path, img1__1_dot_jpg="one", masks__1_dot_jpg="two")
    before = describe_files([tmp_path])
    write(tmp_path, img1__1_dot_jpg="other")
    assert describe_files([tmp_path])["sha256"] != before["sha256"]


def test_a_file_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    paths = write(tmp_path, a="1", sub__b="22")
    expected = describe_files(paths, tmp_path)
    assert describe_files([tmp_path, *paths, tmp_path / "sub"], tmp_path) == expected
    assert describe_files([paths[0], paths[0]]) == describe_files(paths[:1])


def test_missing_files_are_ignored(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="1")
    assert describe_files([path, tmp_path / "seqinfo.ini"]) == describe_files([path])
    assert describe_files([])["files"] == 0


# --- code -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Runs git in a fresh repository that holds the package `code` and a file beside it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    top = tmp_path / "checkout"
    write(top, code__init_dot_py="one = 1", README="text", _dot_gitignore="site\n")

    def run(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", "-C", str(top), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    run("init", "-q")
    run("add", ".")
    run("commit", "-q", "-m", "first")
    return run


def test_a_checkout_has_a_commit_and_a_dirty_flag(git: Git, tmp_path: Path) -> None:
    package = tmp_path / "checkout" / "code"
    commit = git("rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert describe_checkout(package) == {"commit": commit, "dirty": False}
    write(package, init_dot_py="one = 2")
    assert describe_checkout(package) == {"commit": commit, "dirty": True}
    git("commit", "-q", "-a", "-m", "second")
    assert describe_checkout(package) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "checkout" / "README").unlink()
    assert describe_checkout(package)["dirty"] is True


def test_a_new_module_makes_the_code_dirty_and_other_new_files_do_not(git: Git, tmp_path: Path) -> None:
    package = tmp_path / "checkout" / "code"
    write(tmp_path / "checkout", notes_dot_txt="", code__site__cached="ignored")
    assert describe_checkout(package)["dirty"] is False
    write(package, sub__more_dot_py="two = 2")
    assert describe_checkout(package)["dirty"] is True


UNKNOWN = {"commit": None, "dirty": None}


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    write(tmp_path, code__init_dot_py="")
    assert describe_checkout(tmp_path / "code") == UNKNOWN
    assert describe_checkout(tmp_path / "none") == UNKNOWN


def test_without_git_the_commit_is_unknown(git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_checkout(tmp_path / "checkout" / "code") == UNKNOWN


@pytest.mark.parametrize("place", [".venv/lib/code", "site", "other"])
def test_a_copy_installed_inside_another_checkout_has_no_commit(git: Git, tmp_path: Path, place: str) -> None:
    """At the top of it either: `pip install --target .` puts a package there."""
    copy = tmp_path / "checkout" / place
    shutil.copytree(tmp_path / "checkout" / "code", copy)
    assert describe_checkout(copy) == UNKNOWN


def test_a_checkout_without_a_commit_is_unknown(git: Git, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    write(fresh, code__init_dot_py="")
    subprocess.run(["git", "init", "-q", str(fresh)], check=True)
    assert describe_checkout(fresh / "code") == UNKNOWN


# --- the stamp --------------------------------------------------------------------------------------------------------


def test_provenance_describes_the_origin_of_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/motserve", "evaluate", "--set", "reid.policy=off"])
    config = load_config([{"tracker": {"high_confidence": 0.65}}])
    made = stamp(
        config,
        weights={"detector": {"name": "a.pt", "sha256": "1"}, "reid": None},
        data={"walk": {"ground_truth": {"files": 1}}},
        libraries=("orjson", "no-such-library"),
        notes={"held_out": ["b"]},
        clock=lambda: datetime(2026, 3, 1, 12, 30, 5, 999, timezone(timedelta(hours=2))),
    )
    assert made["motserve"]["version"] == __version__
    assert set(made["motserve"]) == {"version", "commit", "dirty"}
    assert made["date"] == "2026-03-01T12:30:05+02:00"
    assert made["command"] == ["motserve", "evaluate", "--set", "reid.policy=off"]
    assert made["config"]["tracker"]["high_confidence"] == 0.65
    assert load_config([made["config"]]) == config
    assert made["weights"] == {"detector": {"name": "a.pt", "sha256": "1"}, "reid": None}
    assert made["data"] == {"walk": {"ground_truth": {"files": 1}}}
    assert made["held_out"] == ["b"]
    assert made["libraries"]["numpy"] == np.__version__
    assert made["libraries"]["orjson"] == metadata.version("orjson")
    assert "no-such-library" not in made["libraries"]
    assert set(made["libraries"]) <= {*LIBRARIES, "orjson"}
    assert json.loads(orjson.dumps(made)) == made


def test_the_date_has_its_time_zone() -> None:
    date = datetime.fromisoformat(stamp(load_config())["date"])
    assert date.tzinfo is not None
    assert abs(datetime.now(timezone.utc) - date) < timedelta(minutes=5)


def test_the_machine_is_described_and_gpus_only_where_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    machine = describe_machine()
    assert machine["gpus"] == []
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0


@pytest.mark.parametrize(
    ("secret", "public"),
    [
        ("postgresql://ann:secret@host/db", "postgresql://host/db"),
        ("postgresql://ann:secret@host:5432/db?sslmode=require", "postgresql://host:5432/db?sslmode=require"),
        ("https://token@host", "https://host"),
        ("https://ann:p@secret@host/a", "https://host/a"),
        ("mysql+pymysql://ann:secret%40@host/db", "mysql+pymysql://host/db"),
        ("postgresql://ann:se/cret@host/db", "postgresql://host/db"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host:8080/mail/a@b", "https://host:8080/mail/a@b"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("https://host/a?api_key=secret&x=1#y", "https://host/a?api_key=***&x=1#y"),
        ("rtsp://cam/?user=ann&password=secret", "rtsp://cam/?user=ann&password=***"),
        ("https://host/a.mp4?sv=1&sig=secret", "https://host/a.mp4?sv=1&sig=***"),
        ("a?token=beneath notice", "a?token=beneath notice"),
    ],
)
def test_credentials_are_removed(monkeypatch: pytest.MonkeyPatch, secret: str, public: str) -> None:
    monkeypatch.setattr(sys, "argv", ["motserve", "--set", f"mlflow.tracking_uri={secret}"])
    config = load_config([{"mlflow": {"tracking_uri": secret, "artifact_dir": secret}}])
    made = stamp(config, notes={"candidates": {"a": {"uri": secret, "several": (secret, [secret])}}})
    assert made["command"][-1] == f"mlflow.tracking_uri={public}"
    assert (made["config"]["mlflow"]["tracking_uri"], made["config"]["mlflow"]["artifact_dir"]) == (public, public)
    assert made["candidates"]["a"] == {"uri": public, "several": [public, [public]]}
    if secret != public:
        assert "ret" not in json.dumps(made["candidates"])


def test_the_admin_token_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["motserve", "--set", "serving.admin_token=0123456789abcdef"])
    made = stamp(load_config([{"serving": {"admin_token": "0123456789abcdef"}}]))
    assert made["command"][-1] == "serving.admin_token=**********"
    assert "0123456789abcdef" not in json.dumps(made)


def test_provenance_is_written_beside_a_result(tmp_path: Path) -> None:
    result = tmp_path / "tracks.txt"
    result.write_text("1,1\n")
    write_stamp(result, {"date": "today"})
    path = tmp_path / "tracks.provenance.json"
    sha256 = hashlib.sha256(b"1,1\n").hexdigest()
    assert json.loads(path.read_text()) == {"date": "today", "result": {"file": "tracks.txt", "sha256": sha256}}
    assert stamp_of(result) == json.loads(path.read_text())


def test_provenance_of_another_file_is_ignored(tmp_path: Path) -> None:
    result = tmp_path / "tracks.txt"
    result.write_text("1,1\n")
    assert stamp_of(result) is None
    write_stamp(result, {"date": "today"})
    assert stamp_of(result) is not None
    (tmp_path / "tracks.csv").write_text("1,1\n")
    assert stamp_of(tmp_path / "tracks.csv") is None
    result.write_text("2,1\n")
    assert stamp_of(result) is None
    (tmp_path / "tracks.provenance.json").write_text("[]")
    assert stamp_of(result) is None


def test_provenance_inside_a_result_is_read(tmp_path: Path) -> None:
    result = tmp_path / "tracks.json"
    result.write_text('{"provenance": {"date": "today"}}')
    assert stamp_of(result) == {"date": "today"}
    result.write_text('{"provenance": 1}')
    assert stamp_of(result) is None

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_checks import Motserve

from motserve.config import Config
from motserve.errors import Conflict, DiskFull, IncompatibleStore, NotFound
from motserve.files import disk
from motserve.people.database import migrate
from motserve.people.identity_store import IDENTITIES_FILE, IdentityStore
from motserve.people.identity_summaries import IdentitySummary
from motserve.serving.inference.active_models import ACTIVE_MODELS_FILE, ActiveModels
from motserve.serving.stores import JOBS_FILE, JOBS_STEPS, ArtifactStore, Job, JobStore
from motserve.serving.stores import backup as module
from motserve.serving.stores.backup import back_up, restore


def person(number: int) -> IdentitySummary:
    return IdentitySummary(number, 0.0, 1.0, np.full((1, 4), 0.5, np.float32), b"thumbnail of %d" % number)


def add_video(storage: Path, video_id: str, source: str | None = None) -> None:
    """A finished video as the service leaves it."""
    jobs, artifacts = JobStore(storage), ArtifactStore(storage)
    artifacts.create(video_id)
    if source is None:
        artifacts.source(video_id).write_bytes(b"video " + video_id.encode())
    artifacts.results(video_id).write_bytes(b'{"frame":0,"tracks":[]}\n')
    jobs.add(Job(video_id, f"{video_id}.mp4", source or str(artifacts.source(video_id)), 1.0), 10_000, 5)
    IdentityStore(storage, 1000).put(video_id, "model", [person(1), person(2)])
    assert jobs.write(video_id, 0, status="done")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """The storage of a service with two finished videos; the second was named by a URL."""
    folder = tmp_path / "data"
    add_video(folder, "a")
    add_video(folder, "b", "/footage/b.mp4")
    ActiveModels(folder, "deployment").names("detector", Config(), lambda *_: ("bundled",))
    return folder


def test_a_backup_can_be_restored_into_another_folder(storage: Path, tmp_path: Path) -> None:
    made = back_up(storage, tmp_path / "backup", "9.9.9")
    assert (made.videos, made.version, made.stores) == (
        2, "9.9.9", {JOBS_FILE: len(JOBS_STEPS), IDENTITIES_FILE: 1, ACTIVE_MODELS_FILE: 2},
    )  # fmt: skip
    shutil.rmtree(storage)
    new = tmp_path / "elsewhere" / "data"
    assert restore(tmp_path / "backup", new) == made
    jobs, artifacts = JobStore(new), ArtifactStore(new)
    assert jobs.get("a").source == str(artifacts.source("a"))
    assert artifacts.source("a").read_bytes() == b"video a"
    assert jobs.get("b").source == "/footage/b.mp4"
    assert artifacts.results("b").read_bytes() == b'{"frame":0,"tracks":[]}\n'
    people = IdentityStore(new, 1000)
    assert people.thumbnail(people.find("b", 2).id) == b"thumbnail of 2"
    assert ActiveModels(new, "deployment").current("detector") == ("bundled",)


def test_a_backup_can_be_made_while_the_service_writes(storage: Path, tmp_path: Path) -> None:
    """A backup has all files and people of each video that is done in it."""
    stop, started = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        try:
            for number in range(1000):
                if stop.is_set():
                    return
                add_video(storage, f"w{number}")
                if number >= 3:
                    started.set()
        except Exception as error:
            failures.append(error)
        finally:
            started.set()

    writer = threading.Thread(target=work)
    writer.start()
    assert started.wait(60)
    try:
        counts = [back_up(storage, tmp_path / f"backup{number}", "1").videos for number in range(5)]
    finally:
        stop.set()
        writer.join(60)
    assert not failures
    assert counts == sorted(counts)
    assert counts[0] >= 5
    for number, count in enumerate(counts):
        restored = tmp_path / f"restored{number}"
        restore(tmp_path / f"backup{number}", restored)
        jobs = JobStore(restored).page(10_000)
        assert len(jobs) == count
        people = IdentityStore(restored, 1000)
        for job in jobs:
            if job.status == "done":
                assert ArtifactStore(restored).results(job.id).exists()
                assert len(people.of_video(job.id)) == 2


def test_a_backup_keeps_nothing_of_a_video_that_is_deleted_meanwhile(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copy2

    def copy_and_lose(file: Path, target: Path) -> Any:
        done = copy(file, target)
        if file.parent.name == "a":
            shutil.rmtree(file.parent)
        return done

    monkeypatch.setattr(shutil, "copy2", copy_and_lose)
    assert back_up(storage, tmp_path / "backup", "1").videos == 1
    monkeypatch.undo()
    restore(tmp_path / "backup", tmp_path / "restored")
    assert [job.id for job in JobStore(tmp_path / "restored").page(10)] == ["b"]
    assert not ArtifactStore(tmp_path / "restored").results("a").parent.exists()
    assert IdentityStore(tmp_path / "restored", 1000).videos() == {"b"}


def test_partial_files_are_not_backed_up(storage: Path, tmp_path: Path) -> None:
    (storage / "videos" / "a" / ".annotated.mp4.1234.part").write_bytes(b"half")
    back_up(storage, tmp_path / "backup", "1")
    assert sorted(file.name for file in (tmp_path / "backup" / "videos" / "a").iterdir()) == ["source", "tracks.ndjson"]


def test_a_target_that_is_not_empty_is_refused(storage: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    back_up(storage, tmp_path / "backup", "1")
    calls: list[Callable[[], object]] = [
        lambda: back_up(storage, full, "1"),
        lambda: restore(tmp_path / "backup", full),
    ]
    for call in calls:
        with pytest.raises(Conflict, match="full is not empty"):
            call()
    assert [file.name for file in full.iterdir()] == ["file"]


def test_a_folder_without_a_job_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"no jobs.sqlite; is serving.storage_dir right"):
        back_up(tmp_path / "empty", tmp_path / "backup", "1")
    assert not (tmp_path / "backup").exists()
    assert not list((tmp_path / "empty").iterdir())


def _unfinished(backup: Path) -> None:
    (backup / "backup.json").unlink()


def _garbled(backup: Path) -> None:
    (backup / "backup.json").write_text('{"version": 1')


def _without_people(backup: Path) -> None:
    (backup / IDENTITIES_FILE).unlink()


def _cut_off(backup: Path) -> None:
    (backup / "videos" / "a" / "source").write_bytes(b"")


def _damaged(backup: Path) -> None:
    with (backup / JOBS_FILE).open("r+b") as file:
        file.seek(0)
        file.write(b"\xff" * 2000)


def _of_a_later_release(backup: Path) -> None:
    with closing(sqlite3.connect(backup / JOBS_FILE)) as database:
        database.execute("PRAGMA user_version = 99")


def _with_another_store(backup: Path) -> None:
    manifest = json.loads((backup / "backup.json").read_text())
    manifest["stores"]["../evil.sqlite"] = 0
    (backup / "backup.json").write_text(json.dumps(manifest))


def _with_a_link(backup: Path) -> None:
    (backup / "videos" / "link").symlink_to("/etc")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_unfinished, "is no backup, or was not finished"),
        (_garbled, "backup.json cannot be read"),
        (_without_people, "identities.sqlite is missing"),
        (_cut_off, "the backup is incomplete"),
        (_damaged, "jobs.sqlite is damaged"),
        (_with_another_store, r"names a store '\.\./evil\.sqlite'"),
        (_with_a_link, "is a link"),
        (_of_a_later_release, "version 99.*restore with motserve 9.9.9 or later"),
    ],
)
def test_an_incomplete_backup_is_refused_before_anything_is_written(
    storage: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    back_up(storage, tmp_path / "backup", "9.9.9")
    damage(tmp_path / "backup")
    with pytest.raises((NotFound, IncompatibleStore), match=message):
        restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_store_that_cannot_be_read_is_named(storage: Path, tmp_path: Path) -> None:
    (storage / IDENTITIES_FILE).write_bytes(b"nothing of a database" * 100)
    with pytest.raises(IncompatibleStore, match=r"identities.sqlite cannot be copied"):
        back_up(storage, tmp_path / "backup", "1")
    with pytest.raises(NotFound, match="not finished"):
        restore(tmp_path / "backup", tmp_path / "restored")


def test_a_backup_of_an_earlier_release_is_migrated(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(storage, tmp_path / "backup", "1")
    later = (*JOBS_STEPS, ("ALTER TABLE jobs ADD COLUMN later TEXT",))
    monkeypatch.setitem(module._STORES, JOBS_FILE, later)
    restore(tmp_path / "backup", tmp_path / "restored")
    with closing(sqlite3.connect(tmp_path / "restored" / JOBS_FILE)) as database:
        assert database.execute("SELECT later FROM jobs").fetchall() == [(None,), (None,)]
    migrate(tmp_path / "restored" / JOBS_FILE, later)  # there is nothing left to migrate


def test_backup_and_restore_on_the_command_line(storage: Path, tmp_path: Path, motserve: Motserve) -> None:
    here = ("--set", f"serving.storage_dir={storage}")
    there = ("--set", f"serving.storage_dir={tmp_path / 'restored'}")
    result = motserve("store", "backup", tmp_path / "backup", *here)
    assert result.exit_code == 0, result.output
    assert "2 videos" in result.output
    assert json.loads((tmp_path / "backup" / "backup.json").read_text())["storage_dir"] == str(storage)
    result = motserve("store", "restore", tmp_path / "backup", *there)
    assert result.exit_code == 0, result.output
    assert JobStore(tmp_path / "restored").get("a").status == "done"
    refused = motserve("store", "restore", tmp_path / "backup", *there)
    assert refused.exit_code == 3
    assert "is not empty" in refused.output


def test_too_little_disk_space_is_reported_before_any_copy(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(storage, tmp_path / "backup", "1")
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1000)
    with pytest.raises(DiskFull, match="the size of the storage"):
        back_up(storage, tmp_path / "other", "1")
    with pytest.raises(DiskFull, match="the size of the backup"):
        restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "restored").exists()

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from motserve.config import Config
from motserve.errors import NotFound, Overloaded
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.stores import ArtifactStore, Job, JobStore, attempt_of


def job(video_id: str, created_at: float = 0.0, **changes: Any) -> Job:
    return Job(video_id, f"{video_id}.mp4", f"/videos/{video_id}", created_at, **changes)


def filled(root: Path, *jobs: Job) -> JobStore:
    store = JobStore(root)
    for one in jobs:
        store.add(one, 1000, 5)
    return store


def test_a_stored_job_equals_the_added_one(tmp_path: Path) -> None:
    full = job(
        "a", 1.5, status="failed", frames_done=3, frames_total=9, fps=2.5, identities=4, embeddings=5, links=1,
        video={"width": 640, "rate_hz": None}, models={"reid": None}, classes={"0": "person"},
        error={"type": "InvalidVideo", "message": "cut off “here”"},
    )  # fmt: skip
    assert filled(tmp_path / "new" / "folder", full, job("b")).get("a") == full
    assert JobStore(tmp_path / "new" / "folder").get("b") == job("b")


def test_a_write_changes_only_the_named_columns(tmp_path: Path) -> None:
    store = filled(tmp_path, job("a"), job("b"))
    changes: dict[str, Any] = {"status": "running", "frames_done": 7, "models": {"detector": {"name": "x"}}}
    assert store.write("a", 0, heartbeat=3.0, **changes)
    assert store.get("a") == job("a", heartbeat=3.0, **changes)
    assert store.get("b") == job("b")


def test_get_many_returns_the_jobs_that_exist(tmp_path: Path) -> None:
    store = filled(tmp_path, *(job(str(number)) for number in range(700)))
    video_ids = [str(number) for number in range(100, 800)]
    assert store.get_many(video_ids) == {name: job(name) for name in video_ids[:600]}
    assert store.get_many([]) == {}


def test_a_deleted_job_stays_deleted(tmp_path: Path) -> None:
    store = filled(tmp_path, job("a"))
    store.delete("a")
    assert not store.write("a", 0, status="done")
    for call in (store.get, store.delete, lambda video_id: store.page(5, after=video_id)):
        with pytest.raises(NotFound, match="no video a"):
            call("a")


def test_jobs_are_paged_from_the_newest_to_the_oldest(tmp_path: Path) -> None:
    store = filled(tmp_path, *(job(f"{number:02}", created_at=number // 3) for number in range(11)))
    pages, after = [], None
    while page := store.page(4, after):
        pages.append([one.id for one in page])
        after = page[-1].id
    assert pages == [["10", "09", "08", "07"], ["06", "05", "04", "03"], ["02", "01", "00"]]


def test_paging_is_not_disturbed_by_jobs_added_or_deleted_meanwhile(tmp_path: Path) -> None:
    store = filled(tmp_path, *(job(str(number), created_at=number) for number in range(6)))
    first = store.page(2)
    store.add(job("new", created_at=99), 1000, 5)
    store.delete("3")
    assert [one.id for one in first + store.page(9, after=first[-1].id)] == ["5", "4", "2", "1", "0"]


def test_active_jobs_are_those_queued_or_running(tmp_path: Path) -> None:
    statuses = ("queued", "running", "done", "failed")
    store = filled(tmp_path, *(job(status, status=status) for status in statuses))
    assert {one.id for one in store.active()} == {"queued", "running"}


def test_beyond_the_limit_no_job_is_accepted(tmp_path: Path) -> None:
    store = filled(tmp_path, job("done", status="done"), job("a", status="running"), job("b"))
    with pytest.raises(Overloaded, match="2 videos") as caught:
        store.add(job("c"), max_active=2, retry_after_s=7)
    assert caught.value.retry_after_s == 7
    with pytest.raises(NotFound):
        store.get("c")
    assert store.write("a", 0, status="done")
    store.add(job("c"), max_active=2, retry_after_s=7)


def test_active_jobs_are_counted_under_the_lock_that_adds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(tmp_path)
    locked = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if "count(" in sql:
                locked.append(self.in_transaction)
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    store.add(job("a"), 1, 5)
    assert locked == [True]


# --- attempts ---------------------------------------------------------------------------------------------------------


def test_only_the_attempt_that_has_a_video_writes(tmp_path: Path) -> None:
    store = filled(tmp_path, job("a", heartbeat=1.0), job("b", heartbeat=1.0))
    second = store.take_over(store.get("a"))
    assert second is not None
    assert (second.attempt, second.restarts) == (1, 1)
    assert not store.write("a", 0, frames_done=5)
    assert store.get("a") == second
    assert store.write("a", 1, frames_done=7, models={"reid": None})
    assert (store.get("a").frames_done, store.get("a").models) == (7, {"reid": None})
    assert store.get("b") == job("b", heartbeat=1.0)


@pytest.mark.parametrize("status", ["done", "failed"])
def test_no_session_writes_to_a_video_that_has_ended(tmp_path: Path, status: str) -> None:
    store = filled(tmp_path, job("a", heartbeat=1.0))
    assert store.write("a", 0, status=status)
    ended = store.get("a")
    assert not store.write("a", 0, status="running")
    assert store.take_over(ended) is None
    assert store.get("a") == ended
    store.delete("a")
    assert not store.write("a", 0, status="running")


def test_writing_is_a_heartbeat_and_releasing_is_none(tmp_path: Path) -> None:
    store = JobStore(tmp_path, clock=lambda: 100.0)
    store.add(job("a", heartbeat=50.0), 10, 5)
    read = store.get("a")
    assert store.write("a", 0)
    assert store.get("a").heartbeat == 100
    assert store.take_over(read) is None, "it has written a heartbeat since"
    assert store.write("a", 0, heartbeat=0.0)
    restarted = store.take_over(store.get("a"))
    assert restarted is not None
    assert (restarted.attempt, restarted.restarts, restarted.heartbeat) == (1, 0, 100), "it was released and not lost"
    assert store.get("a") == restarted


def test_each_attempt_has_an_actor_of_its_own(tmp_path: Path) -> None:
    store = filled(tmp_path, job("a", heartbeat=1.0, actor="warm.1"))
    for actor in ("warm.2", ""):
        following = store.take_over(store.get("a"), actor=actor)
        assert following == store.get("a")
        assert following is not None
        assert following.actor == actor
    assert store.write("a", 2, status="failed")
    again = store.retry(store.get("a"), 1, 5, "warm.3")
    assert again == store.get("a")
    assert again is not None
    assert again.actor == "warm.3"


def _take_over(root: Path, barrier: threading.Barrier) -> bool:
    store = JobStore(root)
    read = store.get("a")
    barrier.wait(60)
    return store.take_over(read) is not None


def test_of_all_callers_that_find_a_session_lost_one_takes_over(tmp_path: Path) -> None:
    for attempt in range(10):
        root, barrier = tmp_path / str(attempt), threading.Barrier(4)
        filled(root, job("a", heartbeat=1.0))
        with ThreadPoolExecutor(4) as threads:
            taken = [threads.submit(_take_over, root, barrier) for _ in range(4)]
        assert sum(one.result(60) for one in taken) == 1
        assert JobStore(root).get("a").attempt == 1


def test_a_table_of_the_first_release_gets_the_missing_columns(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as database, database:
        database.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, name TEXT NOT NULL, source TEXT NOT NULL, created_at REAL NOT "
            "NULL, status TEXT NOT NULL, frames_done INTEGER NOT NULL, frames_total INTEGER, fps REAL NOT NULL, "
            "identities INTEGER NOT NULL, video TEXT, models TEXT, classes TEXT, embeddings INTEGER NOT NULL, links "
            "INTEGER NOT NULL, error TEXT)"
        )
        database.execute(
            "INSERT INTO jobs VALUES ('a', 'a.mp4', '/videos/a', 0.0, 'queued', 0, NULL, 0.0, 0, NULL, NULL, NULL, 0, "
            "0, NULL)"
        )
    assert JobStore(tmp_path).get("a") == job("a")
    assert JobStore(tmp_path).write("a", 0, status="running")


def test_a_column_of_a_later_release_is_ignored(tmp_path: Path) -> None:
    store = filled(tmp_path, job("a"))
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as database, database:
        database.execute("ALTER TABLE jobs ADD COLUMN colour TEXT")
    assert store.get("a") == job("a")


def test_checkpoints_are_listed_from_the_latest_attempt(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.create("a")
    assert store.checkpoints("a") == store.checkpoints("unknown") == []
    for attempt in (2, 10, 0):
        store.checkpoint("a", attempt).write_bytes(b"")
    (tmp_path / "videos" / "a" / ".checkpoint-3.npz.1234.part").write_bytes(b"")
    assert [attempt_of(path) for path in store.checkpoints("a")] == [10, 2, 0]


def _add_some(root: Path, prefix: str, count: int, limit: int) -> int:
    store = JobStore(root)
    taken = 0
    for number in range(count):
        try:
            store.add(job(f"{prefix}-{number}"), limit, 5)
            taken += 1
        except Overloaded:
            continue
        assert store.write(f"{prefix}-{number}", 0, status="running", frames_done=number)
    return taken


def test_concurrent_threads_do_not_exceed_the_limit(tmp_path: Path) -> None:
    for attempt in range(5):
        root = tmp_path / str(attempt)
        barrier = threading.Barrier(8)

        def add(name: int, root: Path = root, barrier: threading.Barrier = barrier) -> int:
            barrier.wait(60)
            return _add_some(root, str(name), 3, 4)

        JobStore(root)
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(add, range(8))) == 4
        assert len(JobStore(root).active()) == 4


def test_concurrent_processes_lose_nothing_and_do_not_exceed_the_limit(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as processes:
        counts = [processes.submit(_add_some, tmp_path, name, 15, 31) for name in "abc"]
        assert sum(count.result(60) for count in counts) == 31
    jobs = JobStore(tmp_path).active()
    assert len(jobs) == 31
    assert all(one.frames_done == int(one.id.partition("-")[2]) for one in jobs)


def test_the_files_of_a_video_are_in_a_folder_of_their_own(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    folder = store.create("a")
    store.create("b")
    paths = [store.source("a"), store.results("a"), store.annotated("a")]
    assert {path.parent for path in paths} == {folder}
    assert len(set(paths)) == 3
    for path in (*paths, store.source("b")):
        path.write_bytes(b"content")
    store.delete("a")
    store.delete("a")
    assert not folder.exists()
    assert store.source("b").exists()


def test_the_folder_of_a_video_is_created_once(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.create("a")
    with pytest.raises(FileExistsError):
        store.create("a")


def test_names_of_weights_come_back_as_they_were(tmp_path: Path) -> None:
    names = ("models:/a/1", os.fsdecode(b"/srv/caf\xe9.pt"), "café.pt")
    active_models = ActiveModels(tmp_path, "deployment")
    assert active_models.names("detector", Config(), lambda *_: names) == names
    active_models.change("detector", names, names[:1])
    assert active_models.current("detector") == names[:1]


def test_a_path_comes_back_as_it_was(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for video, source in (("a", os.fsdecode(b"/srv/caf\xe9.mp4")), ("b", "/srv/café.mp4")):
        store.add(Job(video, "clip.mp4", source, 1.0), 10, 5)
        assert store.get(video).source == source
        assert store.write(video, 0, status="failed", error={"type": "X", "message": source})
        assert (store.get(video).error or {})["message"] == source.replace("\udce9", r"\xe9")

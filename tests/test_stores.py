from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from motserve.errors import NotFound, Overloaded
from motserve.serving.stores import ArtifactStore, Job, JobStore


def job(video_id: str, created_at: float = 0.0, **changes: Any) -> Job:
    return Job(video_id, f"{video_id}.mp4", f"/videos/{video_id}", created_at, **changes)


def filled(root: Path, *jobs: Job) -> JobStore:
    store = JobStore(root)
    for one in jobs:
        store.add(one, 1000, 5)
    return store


def test_a_job_comes_back_as_it_was_added(tmp_path: Path) -> None:
    full = job(
        "a", 1.5, status="failed", frames_done=3, frames_total=9, fps=2.5, identities=4, embeddings=5, links=1,
        video={"width": 640, "rate_hz": None}, models={"reid": None}, classes={"0": "person"},
        error={"type": "InvalidVideo", "message": "cut off “here”"},
    )  # fmt: skip
    assert filled(tmp_path / "new" / "folder", full, job("b")).get("a") == full
    assert JobStore(tmp_path / "new" / "folder").get("b") == job("b")


def test_an_update_changes_what_it_names(tmp_path: Path) -> None:
    store = filled(tmp_path, job("a"), job("b"))
    store.update("a", status="running", frames_done=7, models={"detector": {"name": "x"}})
    assert store.get("a") == job("a", status="running", frames_done=7, models={"detector": {"name": "x"}})
    assert store.get("b") == job("b")


def test_several_jobs_are_those_of_them_that_exist(tmp_path: Path) -> None:
    store = filled(tmp_path, *(job(str(number)) for number in range(700)))
    wanted = [str(number) for number in range(100, 800)]
    assert store.several(wanted) == {name: job(name) for name in wanted[:600]}
    assert store.several([]) == {}


def test_a_deleted_job_stays_deleted(tmp_path: Path) -> None:
    store = filled(tmp_path, job("a"))
    store.delete("a")
    store.update("a", status="done")
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


def test_paging_is_not_disturbed_by_what_is_added_or_deleted_meanwhile(tmp_path: Path) -> None:
    store = filled(tmp_path, *(job(str(number), created_at=number) for number in range(6)))
    first = store.page(2)
    store.add(job("new", created_at=99), 1000, 5)
    store.delete("3")
    assert [one.id for one in first + store.page(9, after=first[-1].id)] == ["5", "4", "2", "1", "0"]


def test_active_are_those_queued_or_running(tmp_path: Path) -> None:
    statuses = ("queued", "running", "done", "failed")
    store = filled(tmp_path, *(job(status, status=status) for status in statuses))
    assert {one.id for one in store.active()} == {"queued", "running"}


def test_beyond_the_limit_no_job_is_taken(tmp_path: Path) -> None:
    store = filled(tmp_path, job("done", status="done"), job("a", status="running"), job("b"))
    with pytest.raises(Overloaded, match="2 videos") as caught:
        store.add(job("c"), max_active=2, retry_after_s=7)
    assert caught.value.retry_after_s == 7
    with pytest.raises(NotFound):
        store.get("c")
    store.update("a", status="done")
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


def _add_some(root: Path, prefix: str, count: int, limit: int) -> int:
    store = JobStore(root)
    taken = 0
    for number in range(count):
        try:
            store.add(job(f"{prefix}-{number}"), limit, 5)
            taken += 1
        except Overloaded:
            continue
        store.update(f"{prefix}-{number}", status="running", frames_done=number)
    return taken


def test_threads_together_do_not_exceed_the_limit(tmp_path: Path) -> None:
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


def test_processes_together_lose_nothing_and_do_not_exceed_the_limit(tmp_path: Path) -> None:
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


def test_a_video_is_made_once(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.create("a")
    with pytest.raises(FileExistsError):
        store.create("a")

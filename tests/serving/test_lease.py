"""The lease on a clock of the test's own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from motserve.config.serving import SessionConfig
from motserve.serving.session.lease import Lease, Superseded
from motserve.serving.stores import Job, JobStore

NOW = 1_000_000.0


def job(video_id: str, heartbeat: float = NOW, **changes: Any) -> Job:
    return Job(video_id, f"{video_id}.mp4", f"/videos/{video_id}", 0.0, heartbeat=heartbeat, **changes)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lease_on(
    folder: Path, clock: Callable[[], float], draining: Callable[[], bool], stalled: Callable[[], float] = lambda: 0.0
) -> tuple[Lease, JobStore]:
    jobs = JobStore(folder, clock=lambda: NOW)
    jobs.add(job("a", 1.0), 10, 5)
    lease = Lease(jobs, jobs.get("a"), SessionConfig(lease_s=1, stall_timeout_s=5), draining, stalled, clock)
    lease_any: Any = lease
    lease_any._lease_s = 0.03  # below the configurable minimum, so that the test is quick
    return lease, jobs


async def keep_until(lease: Lease, condition: Callable[[], bool]) -> asyncio.Task[None]:
    task = asyncio.create_task(lease.keep())

    async def wait() -> None:
        while not (condition() or task.done()):
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), 30)
    return task


def test_a_session_without_progress_stops_and_leaves_the_video(tmp_path: Path) -> None:
    stalled_s = 5.0
    lease, jobs = lease_on(tmp_path, Clock(), lambda: False, lambda: stalled_s)

    async def run() -> None:
        nonlocal stalled_s
        task = await keep_until(lease, lambda: jobs.get("a").heartbeat == NOW)
        assert jobs.get("a").began
        assert not task.done()
        stalled_s = 5.1
        with pytest.raises(Superseded, match="no progress for 5 s; the next session resumes the video"):
            await asyncio.wait_for(task, 30)

    asyncio.run(run())


def test_a_lease_writes_heartbeats_until_another_session_has_the_video(tmp_path: Path) -> None:
    lease, jobs = lease_on(tmp_path, Clock(), lambda: False)

    async def run() -> None:
        task = await keep_until(lease, lambda: jobs.get("a").heartbeat == NOW)
        assert not task.done()
        assert jobs.take_over(jobs.get("a")) is not None
        with pytest.raises(Superseded, match="taken over from attempt 0"):
            await asyncio.wait_for(task, 30)
        with pytest.raises(Superseded):
            lease.write(status="done")
        assert jobs.get("a").status == "queued"

    asyncio.run(run())


def test_a_lease_of_a_deleted_video_is_lost(tmp_path: Path) -> None:
    lease, jobs = lease_on(tmp_path, Clock(), lambda: False)
    jobs.delete("a")
    with pytest.raises(Superseded, match="video a was deleted"):
        asyncio.run(lease.keep())


def test_a_session_that_cannot_write_heartbeats_stops_when_it_may_have_been_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    lease, jobs = lease_on(tmp_path, clock, lambda: False)
    failures = 0

    def broken(*values: Any, **changes: Any) -> bool:
        nonlocal failures
        failures += 1
        clock.now += 0.01
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(jobs, "write", broken)
    with pytest.raises(Superseded, match="no heartbeat"):
        asyncio.run(lease.keep())
    assert failures == 3, "it stopped at the first, or waited longer than a lease"


def test_a_session_whose_store_does_not_answer_stops_when_it_may_have_been_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lease, jobs = lease_on(tmp_path, time.monotonic, lambda: False)
    answer = threading.Event()
    monkeypatch.setattr(jobs, "write", lambda *_, **__: answer.wait(60))

    async def run() -> None:
        task = asyncio.create_task(lease.keep())
        try:
            with pytest.raises(Superseded, match="no heartbeat"):
                await asyncio.wait_for(asyncio.shield(task), 30)
        finally:
            answer.set()

    asyncio.run(run())
    assert "no answer" in caplog.text


def test_no_heartbeat_undoes_the_release_of_a_video(tmp_path: Path) -> None:
    lease, jobs = lease_on(tmp_path, Clock(), lambda: False)
    lease.release()
    lease.write()
    assert jobs.get("a").heartbeat == 0


def test_a_lease_detects_that_its_node_is_drained(tmp_path: Path) -> None:
    draining = False
    answers = iter([RuntimeError("the control plane is away")])

    def is_draining() -> bool:
        if error := next(answers, None):
            raise error
        return draining

    lease, jobs = lease_on(tmp_path, Clock(), is_draining)

    async def run() -> None:
        nonlocal draining
        task = await keep_until(lease, lambda: jobs.get("a").heartbeat == NOW)
        assert not lease.draining
        draining = True
        task.cancel()
        task = await keep_until(lease, lambda: lease.draining)
        assert not task.done()
        task.cancel()

    asyncio.run(run())
    lease.release()
    assert jobs.get("a").heartbeat == 0


class FakeTime(Clock):
    """A clock that pauses advance at once.

    Attributes:
        pauses: Length of each `asyncio.sleep` in seconds.
        timeouts: Timeout of each `asyncio.wait_for` in seconds, which never runs out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.timeouts: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def wait_for(self, work: Awaitable[None], timeout: float) -> None:
        self.timeouts.append(timeout)
        await work


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    made = FakeTime()
    monkeypatch.setattr(asyncio, "sleep", made.sleep)
    monkeypatch.setattr(asyncio, "wait_for", made.wait_for)
    return made


def lease_of(folder: Path, clock: Callable[[], float], lease_s: float = 9, **changes: Any) -> tuple[Lease, JobStore]:
    jobs = JobStore(folder, clock=lambda: NOW + clock())
    jobs.add(job("a", 1.0, attempt=3), 10, 5)
    lease = Lease(
        jobs,
        jobs.get("a"),
        SessionConfig(lease_s=lease_s),
        **{"is_draining": lambda: False, "stalled_s": lambda: 0.0, **changes},
        clock=clock,
    )
    return lease, jobs


def failing(jobs: JobStore, monkeypatch: pytest.MonkeyPatch, times: int) -> list[dict[str, Any]]:
    """Let the store refuse some writes; return the changes of all tries."""
    write, tries = jobs.write, []

    def flaky(video_id: str, attempt: int, **changes: Any) -> bool:
        tries.append(changes)
        if len(tries) <= times:
            raise sqlite3.OperationalError("disk I/O error")
        return write(video_id, attempt, **changes)

    monkeypatch.setattr(jobs, "write", flaky)
    return tries


def test_a_lease_ends_with_its_video(tmp_path: Path) -> None:
    clock = Clock()
    lease, jobs = lease_of(tmp_path, clock)
    lease.write(frames_done=3)
    lease.write(status="running", frames_done=4)
    assert (jobs.get("a").status, jobs.get("a").frames_done) == ("running", 4)
    lease.write(status="done")
    clock.now = 5
    lease.write()
    assert jobs.get("a").heartbeat == NOW, "a heartbeat after the end changes nothing"
    with pytest.raises(Superseded, match="attempt 3 of video a has ended"):
        lease.write(frames_done=9)
    asyncio.run(asyncio.wait_for(lease.keep(), 30))


def test_heartbeats_are_three_times_as_frequent_as_the_lease_is_long(tmp_path: Path, fake_time: FakeTime) -> None:
    def delete_at_the_fourth_pause() -> bool:
        if len(fake_time.pauses) == 4:
            JobStore(tmp_path).delete("a")
        return False

    lease, _ = lease_of(tmp_path, fake_time, is_draining=delete_at_the_fourth_pause)
    with pytest.raises(Superseded, match="video a was deleted or taken over from attempt 3"):
        asyncio.run(lease.keep())
    assert fake_time.pauses == [3] * 5


def test_a_lease_counts_from_the_start_of_its_last_heartbeat(
    tmp_path: Path, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lease, jobs = lease_of(tmp_path, fake_time)
    write = jobs.write
    tries: list[float] = []
    durations = iter([2, 3.5, 0])

    def slow_then_broken(*values: Any, **changes: Any) -> bool:
        tries.append(fake_time.now)
        fake_time.now += next(durations)
        if len(tries) > 1:
            raise sqlite3.OperationalError("disk I/O error")
        return write(*values, **changes)

    fake_time.now = 2
    monkeypatch.setattr(jobs, "write", slow_then_broken)
    with pytest.raises(Superseded, match="no heartbeat for 9 s"):
        asyncio.run(lease.keep())
    assert tries == [2, 7, 11]
    assert fake_time.pauses == [3, 0.5], "the last pause is as long as the lease still lasts"
    assert fake_time.timeouts == [7, 4, 0]
    assert {(vars(record)["video_id"], vars(record)["attempt"]) for record in caplog.records} == {("a", 3)}
    assert "disk I/O error" in caplog.text


def test_a_node_that_is_drained_is_asked_no_more(
    tmp_path: Path, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: Iterator[bool | RuntimeError] = iter([RuntimeError("no control plane"), False, True])

    def is_draining() -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    caplog.set_level("INFO", "motserve.session")
    lease, jobs = lease_of(tmp_path, fake_time, is_draining=is_draining)
    monkeypatch.setattr(jobs, "write", lambda *_, **__: len(fake_time.pauses) < 5)
    assert lease.draining is False
    with pytest.raises(Superseded):
        asyncio.run(lease.keep())
    assert lease.draining
    assert next(answers, None) is None
    assert [(record.levelname, vars(record)["video_id"]) for record in caplog.records] == [
        ("WARNING", "a"),
        ("INFO", "a"),
    ]
    assert "no control plane" in caplog.text


def test_a_change_is_retried_until_the_store_accepts_it(
    tmp_path: Path, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, jobs = lease_of(tmp_path, fake_time)
    tries = failing(jobs, monkeypatch, 3)
    asyncio.run(lease.write_with_retry(lease.write, frames_done=7))
    assert tries == [{"began": True, "frames_done": 7}] * 4
    assert fake_time.pauses == [0.2] * 3
    assert jobs.get("a").frames_done == 7


def test_a_change_is_given_up_after_a_lease(
    tmp_path: Path, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lease, jobs = lease_of(tmp_path, fake_time, lease_s=1.125)
    failing(jobs, monkeypatch, 99)
    with pytest.raises(Superseded, match=r"accepted no change for 1 s"):
        asyncio.run(lease.write_with_retry(lease.release))
    assert fake_time.pauses == pytest.approx([0.2] * 5 + [0.125])
    assert fake_time.timeouts == pytest.approx([1.125, 0.925, 0.725, 0.525, 0.325, 0.125, 0])
    assert jobs.get("a").heartbeat == 1.0
    assert {vars(record)["video_id"] for record in caplog.records} == {"a"}
    assert "disk I/O error" in caplog.text


def test_a_change_is_given_up_if_the_store_does_not_answer_for_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter([0.0, 0.0, 8.99, 9.0])
    lease, jobs = lease_of(tmp_path, lambda: next(times, 9.0))
    answer = threading.Event()
    monkeypatch.setattr(jobs, "write", lambda *_, **__: answer.wait(60))

    async def run() -> None:
        try:
            with pytest.raises(Superseded, match="accepted no change for 9 s"):
                await asyncio.wait_for(lease.write_with_retry(lease.write, frames_done=1), 30)
        finally:
            answer.set()
        assert "no answer" in caplog.text

    asyncio.run(run())


def locked(jobs: JobStore, monkeypatch: pytest.MonkeyPatch, time_: FakeTime, seconds: float) -> None:
    """Let another process lock the store; each write waits a second for it."""
    write = jobs.write

    def refused(video_id: str, attempt: int, **changes: Any) -> bool:
        if time_.now < seconds:
            time_.now += 1
            raise sqlite3.OperationalError("jobs.sqlite: database is locked")
        return write(video_id, attempt, **changes)

    monkeypatch.setattr(jobs, "write", refused)


def test_a_session_outlasts_a_lock_of_the_store_and_stops_if_it_was_replaced(
    tmp_path: Path, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, jobs = lease_of(tmp_path, fake_time, locked_wait_s=600)
    locked(jobs, monkeypatch, fake_time, 100)
    asyncio.run(lease.write_with_retry(lease.write, status="running", frames_done=7))
    assert (jobs.get("a").status, jobs.get("a").frames_done, lease.store_answers) == ("running", 7, True)
    locked(jobs, monkeypatch, fake_time, 200)
    assert jobs.take_over(jobs.get("a")) is not None
    with pytest.raises(Superseded, match="taken over from attempt 3"):
        asyncio.run(lease.keep())
    assert fake_time.now >= 200
    assert jobs.get("a").attempt == 4


def test_a_session_does_not_outlast_a_lock_for_ever(
    tmp_path: Path, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, jobs = lease_of(tmp_path, fake_time, locked_wait_s=60)
    locked(jobs, monkeypatch, fake_time, 1000)
    with pytest.raises(Superseded, match="accepted no change"):
        asyncio.run(lease.write_with_retry(lease.write, frames_done=7))
    assert not lease.store_answers
    assert 60 <= fake_time.now <= 80
    with pytest.raises(Superseded, match="no heartbeat for 9 s"):
        asyncio.run(lease.keep())
    assert 120 <= fake_time.now <= 160

"""Lost sessions without a cluster: how they are detected and restarted, and what readers of the results get."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motserve.config import Config, load_config
from motserve.errors import Conflict, InvalidData, Overloaded
from motserve.people.identity_store import IdentityStore
from motserve.results import truncate_results
from motserve.serving.api.result_tail import ResultTail
from motserve.serving.inference.backends import Backends
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.periodic import cancel_all, repeating
from motserve.serving.session.checkpoint import Checkpoint, CheckpointStore
from motserve.serving.session.launcher import SessionLauncher
from motserve.serving.stores import ArtifactStore, Job, JobStore

NOW = 1_000_000.0


def job(video_id: str, heartbeat: float = NOW, **changes: Any) -> Job:
    return Job(video_id, f"{video_id}.mp4", f"/videos/{video_id}", 0.0, heartbeat=heartbeat, **changes)


def config_in(folder: Path, **session: Any) -> Config:
    return load_config([{"serving": {"storage_dir": str(folder), "session": {"lease_s": 10, **session}}}])


class Launcher(SessionLauncher):
    """A launcher with a list of actors in place of a cluster."""

    def __init__(self, config: Config) -> None:
        root = config.serving.storage_dir
        self.jobs, self.artifacts = JobStore(root, clock=lambda: NOW), ArtifactStore(root)
        self.actors: list[str] = []
        self.started: list[tuple[str, int]] = []
        self.called: list[str] = []
        self.looked_up: list[str] = []
        self.killed: list[tuple[str, int]] = []
        self.error: Exception | None = None
        self.draining = False
        handle: Any = None
        identities = IdentityStore(root, 100)
        super().__init__(
            config,
            "deployment",
            Backends(handle, handle, handle),
            self.jobs,
            self.artifacts,
            identities,
            lambda: NOW,
            lambda: self.draining,
        )

    def find(self, job: Job) -> Any | None:
        self.looked_up.append(job.id)
        called = SimpleNamespace(remote=lambda *_: self.called.append(job.id))
        return SimpleNamespace(run=called, job=job) if job.id in self.actors else None

    def _kill(self, actor: Any) -> None:
        self.killed.append((actor.job.id, actor.job.attempt))
        self.actors.remove(actor.job.id)

    def _launch(self, job: Job, context: RequestContext) -> None:
        if self.error:
            raise self.error
        self.started.append((job.id, job.attempt))
        self.actors.append(job.id)


def launcher_with(folder: Path, *jobs: Job, **session: Any) -> Launcher:
    launcher = Launcher(config_in(folder, **session))
    for one in jobs:
        launcher.jobs.add(one, 100, 5)
    return launcher


def test_only_videos_without_actor_and_heartbeat_are_restarted(tmp_path: Path) -> None:
    launcher = launcher_with(
        tmp_path,
        job("lost", NOW - 11, status="running"),
        job("never-started", NOW - 11),
        job("released", 0.0, status="running"),
        job("of-another-cluster", NOW - 9, status="running"),
        job("waits-for-a-cpu", NOW - 99, status="queued"),
        job("done", NOW - 99, status="done"),
        job("failed", NOW - 99, status="failed"),
    )
    launcher.actors = ["waits-for-a-cpu"]
    launcher.restart_lost()
    launcher.restart_lost()
    assert sorted(launcher.started) == [("lost", 1), ("never-started", 1), ("released", 1)]
    assert {one: launcher.jobs.get(one).restarts for one in ("released", "lost")} == {"released": 0, "lost": 1}
    assert launcher.jobs.get("of-another-cluster").attempt == 0


def test_an_actor_that_waits_or_was_never_called_is_called_again_before_its_lease_ends(tmp_path: Path) -> None:
    """Its caller may have died before the call reached it."""
    launcher = launcher_with(tmp_path, job("a", NOW - 6), job("b", NOW - 4), job("ending", 0.0))
    launcher.actors = ["a", "b", "ending"]
    launcher.restart_lost()
    launcher.restart_lost()
    assert launcher.called == ["a"]
    assert launcher.started == []
    assert (launcher.jobs.get("a").attempt, launcher.jobs.get("a").heartbeat) == (0, NOW)
    launcher.actors.remove("ending")
    launcher.restart_lost()
    assert launcher.started == [("ending", 1)]
    assert launcher.jobs.get("ending").restarts == 0, "a move was counted as a loss"


def test_a_session_without_heartbeats_hangs_and_is_killed(tmp_path: Path) -> None:
    launcher = launcher_with(
        tmp_path,
        job("hangs", NOW - 11, status="running", began=True),
        job("slow", NOW - 9, status="running", began=True),
        job("ends", 0.0, status="running", began=True),
    )
    launcher.actors = ["hangs", "slow", "ends"]
    launcher.restart_lost()
    assert launcher.looked_up.count("hangs") == 1
    launcher.restart_lost()
    assert launcher.killed == [("hangs", 0)]
    assert launcher.started == [("hangs", 1)]
    assert launcher.called == []
    restarted = launcher.jobs.get("hangs")
    assert (restarted.attempt, restarted.restarts, restarted.began) == (1, 1, False)


def test_a_session_whose_process_ended_is_restarted_at_once_by_the_replica_that_started_it(tmp_path: Path) -> None:
    launcher, other = launcher_with(tmp_path), launcher_with(tmp_path)
    launcher.start(job("a", 0.0), RequestContext())
    launcher.jobs.write("a", 0, status="running", began=True)
    launcher.restart_lost()
    assert launcher.started == [("a", 0)]
    launcher.actors.clear()
    other.restart_lost()
    assert other.started == [], "it may run in another cluster"
    launcher.restart_lost()
    launcher.actors.clear()
    launcher.restart_lost()
    assert launcher.started == [("a", 0), ("a", 1), ("a", 2)]
    launcher.jobs.write("a", 2, status="done")
    launcher.actors.clear()
    launcher.restart_lost()
    assert len(launcher.started) == 3


def test_a_draining_cluster_restarts_nothing(tmp_path: Path) -> None:
    launcher = launcher_with(tmp_path, job("a", 0.0))
    launcher.draining = True
    launcher.restart_lost()
    assert launcher.started == []
    launcher.draining = False
    launcher.restart_lost()
    assert launcher.started == [("a", 1)]


def test_two_replicas_that_check_at_once_start_one_session(tmp_path: Path) -> None:
    one, other = launcher_with(tmp_path, job("a", NOW - 11)), launcher_with(tmp_path)
    active = other.jobs.active()
    one.restart_lost()
    other.jobs.active = lambda: active  # type: ignore[method-assign]  # what it read before the other was faster
    other.restart_lost()
    assert one.started == [("a", 1)]
    assert other.started == []


def test_a_video_fails_after_the_allowed_number_of_losses(tmp_path: Path) -> None:
    launcher = launcher_with(tmp_path, job("a", NOW - 11), job("b", NOW - 11), restarts=2)
    launcher.artifacts.create("a")
    CheckpointStore(launcher.artifacts, "a", Config()).save(2, Checkpoint())
    for _ in range(3):
        launcher.restart_lost()
        launcher.actors.clear()
        for one in launcher.jobs.active():
            lost = {"a": NOW - 11, "b": 0.0}[one.id]  # b moves and is never lost
            launcher.jobs.write(one.id, one.attempt, heartbeat=lost, frames_done=8)
    assert launcher.jobs.get("b").attempt == 3
    failed = launcher.jobs.get("a")
    assert (failed.status, failed.attempt) == ("failed", 2)
    assert failed.error == {
        "type": "SessionLost",
        "message": "3 sessions were lost (session 0: it never began, after frame 0; session 1: it never began, after "
        "frame 8; session 2: it never began, after frame 8); POST /v1/videos/a/retry tracks it again",
    }
    assert launcher.artifacts.checkpoints("a") == []


def test_a_failed_video_is_tracked_again_on_request(tmp_path: Path) -> None:
    lost = {"restarts": 3, "losses": ["session 0: it was slow"], "attempt": 4, "frames_done": 9}
    failed = job("a", NOW - 99, status="failed", error={"type": "SessionLost", "message": "x"}, **lost)
    launcher = launcher_with(tmp_path, failed, job("runs", status="running"))
    again = launcher.retry(launcher.jobs.get("a"), RequestContext())
    assert again == launcher.jobs.get("a")
    assert (again.status, again.attempt, again.restarts, again.losses, again.frames_done) == ("queued", 5, 0, [], 0)
    assert (again.error, again.heartbeat, again.began) == (None, NOW, False)
    assert launcher.started == [("a", 5)]
    for one in ("a", "runs"):
        with pytest.raises(Conflict, match="only a failed video can be tracked again"):
            launcher.retry(launcher.jobs.get(one), RequestContext())
    launcher.jobs.give_up(again, {"type": "X", "message": "y"})
    launcher.error = RuntimeError("no cluster")
    with pytest.raises(RuntimeError):
        launcher.retry(launcher.jobs.get("a"), RequestContext())
    assert (launcher.jobs.get("a").status, launcher.jobs.get("a").error) == ("failed", {"type": "X", "message": "y"})


def test_a_retry_counts_towards_the_limit_of_active_videos(tmp_path: Path) -> None:
    launcher = launcher_with(tmp_path, job("a", status="failed"), *(job(f"v{n}", status="running") for n in range(8)))
    with pytest.raises(Overloaded, match="8 videos are active"):
        launcher.retry(launcher.jobs.get("a"), RequestContext())
    assert launcher.jobs.get("a").status == "failed"


def test_a_session_that_is_still_alive_is_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = launcher_with(tmp_path, job("a", NOW - 11, status="running"), restarts=0)

    def alive(job: Job) -> None:
        launcher.jobs.write(job.id, 0)  # between the check and its consequence

    monkeypatch.setattr(launcher, "find", alive)
    launcher.restart_lost()
    assert launcher.jobs.get("a").status == "running"


def test_a_session_that_could_not_be_started_is_retried_after_a_lease(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launcher = launcher_with(tmp_path, job("a", NOW - 11))
    launcher.error = ValueError("the name a is taken")
    launcher.restart_lost()
    launcher.restart_lost()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "no session could be started; it is tried again after a lease"
    ]
    launcher.error = None
    assert launcher.jobs.write("a", 1, heartbeat=NOW - 11)
    launcher.restart_lost()
    assert launcher.started == [("a", 2)]


def test_a_new_video_has_a_lease_before_it_has_an_actor(tmp_path: Path) -> None:
    launcher = launcher_with(tmp_path)
    launcher.start(job("a", 0.0), RequestContext())
    assert launcher.jobs.get("a").heartbeat == NOW
    assert launcher.started == [("a", 0)]


def test_a_video_whose_session_cannot_be_started_leaves_no_job(tmp_path: Path) -> None:
    launcher = launcher_with(tmp_path)
    launcher.error = RuntimeError("no cluster")
    with pytest.raises(RuntimeError, match="no cluster"):
        launcher.start(job("a"), RequestContext())
    assert launcher.jobs.active() == []


def test_a_starting_service_removes_the_files_of_killed_uploads(tmp_path: Path) -> None:
    day = 86400
    video, done, tracked, under_way, written, killed = (f"{number:032x}" for number in range(6))
    launcher = launcher_with(tmp_path, job(video), job(done, status="done"))
    launcher.reconcile()
    ages = {
        video: 2 * day, done: 2 * day, tracked: 2 * day, under_way: day - 10, written: 2 * day, killed: day + 10,
        "lost+found": 2 * day,
    }  # fmt: skip
    for name, age in ages.items():
        source = launcher.artifacts.create(name) / ("tracks.ndjson" if name == tracked else "tmp1234")
        source.write_bytes(b"half of a video")
        for path in (source, source.parent):
            os.utime(path, (NOW - age, NOW - age))
    os.utime(tmp_path / "videos" / written / "tmp1234", (NOW - 5, NOW - 5))
    launcher.reconcile()
    assert {path.name for path in (tmp_path / "videos").iterdir()} == set(ages) - {killed}


def test_an_unreadable_folder_does_not_stop_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = launcher_with(tmp_path)
    launcher.artifacts.create(f"{1:032x}")

    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    assert not launcher.artifacts.remove_abandoned(f"{1:032x}", NOW)


# --- the result file --------------------------------------------------------------------------------------------------


def test_a_process_with_the_old_file_open_does_not_write_to_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    with path.open("wb", buffering=0) as old:
        old.write(b"first\nsecond\nthi")
        truncate_results(path, 6)
        old.write(b"rd\n")
        assert path.read_bytes() == b"first\n"
        truncate_results(path, 0)
        assert path.read_bytes() == b""
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [5, 7, 13, 14])
def test_only_whole_existing_lines_can_be_kept(tmp_path: Path, length: int) -> None:
    path = tmp_path / "tracks.ndjson"
    path.write_bytes(b"first\nsecond")
    with pytest.raises(InvalidData, match=rf"tracks.ndjson does not hold whole lines of {length} bytes"):
        truncate_results(path, length)
    assert path.read_bytes() == b"first\nsecond"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_can_be_started(tmp_path: Path) -> None:
    truncate_results(tmp_path / "tracks.ndjson", 0)
    with pytest.raises(InvalidData):
        truncate_results(tmp_path / "other.ndjson", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.ndjson"]


@pytest.mark.parametrize("again", [b'{"frame":2,"x":0.5}\n', b'{"frame":2,"x":0.4999}\n'])
def test_a_reader_gets_each_line_once_across_a_restart(tmp_path: Path, again: bytes) -> None:
    """Also if a repeated frame is written with another number of digits."""
    path = tmp_path / "tracks.ndjson"
    tail = ResultTail(path)
    assert tail.read() == b""
    lines = [b'{"frame":0}\n', b'{"frame":1,"x":1.25}\n', b'{"frame":2,"x":0.5}\n', b'{"frame":3}\n', b'{"frame":4}\n']
    path.write_bytes(b"".join(lines[:3]) + lines[3][:5])
    assert tail.read() == b"".join(lines[:3])
    assert (tail.read(), tail.frames) == (b"", 3)
    for cut in (2, 1, 0):
        truncate_results(path, len(b"".join(lines[:cut])))
        assert (tail.read(), tail.frames) == (b"", 3)
    for line in (lines[0], lines[1], again):
        with path.open("ab") as file:
            file.write(line)
        assert (tail.read(), tail.frames) == (b"", 3)
    with path.open("ab") as file:
        file.write(lines[3])
    assert (tail.read(), tail.frames) == (lines[3], 4)
    with path.open("ab") as file:
        file.write(lines[4])
    assert (tail.read(), tail.frames) == (lines[4], 5)


def test_a_reader_continues_in_a_restarted_file_that_is_shorter(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    path.write_bytes(b'{"frame":0,"tracks":"many of them"}\n' * 9)
    tail = ResultTail(path)
    tail.read()
    truncate_results(path, 0)
    path.write_bytes(b"{}\n" * 8)
    assert tail.read() == b""
    path.write_bytes(b"{}\n" * 9 + b'{"frame":9}\n')
    assert (tail.read(), tail.frames) == (b'{"frame":9}\n', 10)


def test_a_reader_gets_a_long_file_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    path.write_bytes(b"".join(b'{"frame":%d}%s\n' % (index, b" " * 1000) for index in range(3000)))
    tail = ResultTail(path)
    blocks = []
    while block := tail.read():
        blocks.append(block)
    assert len(blocks) > 2
    assert max(map(len, blocks)) <= 1 << 20
    assert b"".join(blocks) == path.read_bytes()


# --- repeated work ----------------------------------------------------------------------------------------------------


def test_repeated_work_goes_on_after_errors_and_logs_each_once(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter(["a", "a", None, "a", "b", None])
    done = asyncio.Event()

    async def work() -> None:
        outcome = next(outcomes, "end")
        if outcome == "end":
            done.set()
        elif outcome:
            raise RuntimeError(outcome)

    async def run() -> None:
        async with repeating(work, 0.001, logging.getLogger("motserve.test"), "it failed"):
            await asyncio.wait_for(done.wait(), 30)

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == [f"it failed: {what}" for what in ("a", "a", "b")]


def test_repeated_work_that_loses_a_cancellation_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motserve.serving.periodic._CANCEL_AGAIN_S", 0.01)
    runs: list[int] = []

    async def deaf() -> None:
        runs.append(1)
        if len(runs) == 1:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def run() -> None:
        async with repeating(deaf, 0.001, logging.getLogger("motserve.test"), "it failed"):
            while not runs:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motserve.serving.periodic._CANCEL_AGAIN_S", 0.01)

    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def fail() -> None:
        raise RuntimeError("over")

    async def run() -> list[bool]:
        tasks = [asyncio.create_task(work()) for work in (deaf, fail)]
        await asyncio.sleep(0)
        await cancel_all(*tasks)
        return [task.cancelled() for task in tasks]

    assert asyncio.run(asyncio.wait_for(run(), 30)) == [True, False]

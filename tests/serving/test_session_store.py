"""A session whose job store fails for a while: real session and store, and a detector that detects nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from service_checks import write_clip

from motserve.config import load_config
from motserve.serving.inference.replica import ModelInfo
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.session import actor as module
from motserve.serving.session.actor import VideoSession
from motserve.serving.session.checkpoint import Checkpoint, CheckpointStore
from motserve.serving.session.lease import Superseded
from motserve.serving.stores import ArtifactStore, Job, JobStore
from motserve.types import Detections

Write = Callable[..., bool]


class Call:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def remote(self, *values: Any) -> Any:
        return self._function(*values)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 1)


@pytest.fixture
def session(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VideoSession:
    """The second session of a video; the first one has written a checkpoint."""
    monkeypatch.setattr("ray.put", lambda value: value)
    monkeypatch.setattr(module, "is_draining", lambda: False)
    monkeypatch.setattr(module, "_PROGRESS_INTERVAL_S", 0.0)
    config = load_config(
        [
            {
                "detector": {"weights": "bundled"},
                "reid": {"policy": "off"},
                "serving": {"storage_dir": str(tmp_path), "session": {"lease_s": 1}, "metrics": {"per_video": False}},
            }
        ]
    )
    jobs = JobStore(tmp_path)
    jobs.add(Job("a", "clip.mp4", str(clip), 0.0, attempt=1, heartbeat=1.0), 10, 5)
    artifacts = ArtifactStore(tmp_path)
    artifacts.create("a")
    CheckpointStore(artifacts, "a", config).save(0, Checkpoint())
    detector: Any = SimpleNamespace(
        info=Call(lambda _: ModelInfo({"name": "fake", "sha256": "a1"}, {0: "person"})),
        detect=Call(lambda images, *_: [Detections.empty() for _ in images]),
    )
    metrics_collector: Any = SimpleNamespace(record=Call(lambda _: None))
    return VideoSession(jobs.get("a"), config, "deployment", detector, detector, metrics_collector, RequestContext())


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Make those changes of the job fail that satisfy a condition; return all changes that were tried."""
    tried: list[dict[str, Any]] = []
    write: Write = JobStore.write

    def sometimes(self: JobStore, video_id: str, attempt: int, **changes: Any) -> bool:
        tried.append(changes)
        if fails(changes):
            raise sqlite3.OperationalError("database is locked")
        return write(self, video_id, attempt, **changes)

    monkeypatch.setattr(JobStore, "write", sometimes)
    return tried


def track(session: VideoSession) -> str:
    return asyncio.run(asyncio.wait_for(session._track_under_lease(), 60))


def test_progress_that_cannot_be_written_does_not_fail_a_video(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = failing(monkeypatch, lambda changes: changes.get("status") == "running" and "frames_done" in changes)
    assert track(session) == "done"
    assert (JobStore(tmp_path).get("a").status, JobStore(tmp_path).get("a").frames_done) == ("done", 25)
    lines = [record for record in caplog.records if record.getMessage().startswith("progress could not be written")]
    assert len(lines) == sum("frames_done" in changes for changes in tried) - 1 > 0
    assert (lines[0].levelno, vars(lines[0])["video_id"]) == (logging.WARNING, "a")
    assert vars(lines[0])["frame"] > 0


@pytest.mark.parametrize("change", ["video", "status"])
def test_start_and_end_are_retried_until_the_store_accepts_them(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    left = [True, True]
    conditions: dict[str, Callable[[dict[str, Any]], bool]] = {
        "video": lambda changes: "video" in changes,
        "status": lambda changes: changes.get("status") == "done",
    }
    failing(monkeypatch, lambda changes: conditions[change](changes) and bool(left) and left.pop())
    assert track(session) == "done"
    assert left == []
    assert JobStore(tmp_path).get("a").status == "done"
    assert ArtifactStore(tmp_path).checkpoints("a") == []


def test_the_lease_check_before_the_tracks_are_changed_is_retried(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = failing(monkeypatch, lambda _: len(tried) <= 3)
    assert track(session) == "done"
    assert JobStore(tmp_path).get("a").status == "done"


@pytest.mark.parametrize("status", ["running", "done"])
def test_a_video_whose_start_or_end_cannot_be_written_is_left_to_the_next_session(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """Also if the store still accepts heartbeats, as one on a full disk may."""
    failing(monkeypatch, lambda changes: changes.get("status") == status)
    with pytest.raises(Superseded):
        track(session)
    assert JobStore(tmp_path).get("a").status == {"running": "queued", "done": "running"}[status]
    assert ArtifactStore(tmp_path).checkpoints("a"), "no session can resume it"


def test_the_error_of_a_video_is_retried_until_the_store_accepts_it(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [True, True]
    session_any: Any = session
    session_any._client._detector.detect = Call(lambda *_: 1 / 0)
    failing(monkeypatch, lambda changes: changes.get("status") == "failed" and bool(left) and left.pop())
    assert track(session) == "failed"
    job = JobStore(tmp_path).get("a")
    assert (job.status, job.error) == (
        "failed", {"type": "ZeroDivisionError", "message": "tracking stopped after frame 0: division by zero"},
    )  # fmt: skip
    assert left == []


def test_a_heartbeat_after_the_end_changes_nothing(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_any: Any = session
    lease, end = session_any._lease, session_any._continuation.remove_checkpoints

    def late() -> None:
        lease.write()
        end()

    monkeypatch.setattr(session_any._continuation, "remove_checkpoints", late)
    assert track(session) == "done"


def test_checkpoints_that_cannot_be_removed_do_not_fail_a_video(
    session: VideoSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stale(*_: Any, **__: Any) -> None:
        raise OSError(116, "Stale file handle")

    session_any: Any = session
    end = session_any._continuation.remove_checkpoints

    def failing_end() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", stale)
            end()

    monkeypatch.setattr(session_any._continuation, "remove_checkpoints", failing_end)
    assert track(session) == "done"
    assert JobStore(tmp_path).get("a").status == "done"


def test_a_failure_after_the_end_of_a_video_does_not_change_its_job(session: VideoSession, tmp_path: Path) -> None:
    session_any: Any = session
    assert track(session) == "done"
    with pytest.raises(Superseded):
        session_any._lease.write(status="failed")
    assert JobStore(tmp_path).get("a").status == "done"


def test_the_store_is_never_called_on_the_event_loop(session: VideoSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_loop(_: dict[str, Any]) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    on_the_loop: list[bool] = []

    def observe(changes: dict[str, Any]) -> bool:
        on_the_loop.append(on_loop(changes))
        return False

    failing(monkeypatch, observe)
    assert track(session) == "done"
    assert not any(on_the_loop)


def test_a_video_ends_before_the_disk_is_too_full_to_record_why(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motserve.serving.stores.room.free_bytes", lambda _: 1_000_000)
    assert track(session) == "failed"
    error = JobStore(tmp_path).get("a").error
    assert error is not None
    assert error["type"] == "DiskFull"
    assert "the disk of the service (serving.storage_dir) has 1.0 MB left (disk.reserve_bytes)" in error["message"]
    assert str(tmp_path) not in error["message"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_tracks_without_disk_space_fail_the_video_and_its_checkpoints_are_removed_first(
    session: VideoSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: Any) -> None:
        raise OSError(number, "No space left on device")

    def is_refused(changes: dict[str, Any]) -> bool:
        return changes.get("status") == "failed" and bool(ArtifactStore(tmp_path).checkpoints("a"))

    monkeypatch.setattr("motserve.results.store.ResultWriter._write", full)
    CheckpointStore(ArtifactStore(tmp_path), "a", load_config()).save(1, Checkpoint())
    tried = failing(monkeypatch, is_refused)
    assert track(session) == "failed"
    job = JobStore(tmp_path).get("a")
    assert (job.status, (job.error or {})["type"]) == ("failed", "DiskFull")
    assert (
        "tracking stopped after frame 0: the disk of the service (serving.storage_dir) has no room left"
        in (job.error or {})["message"]
    )
    assert [changes["status"] for changes in tried if "status" in changes].count("failed") == 1

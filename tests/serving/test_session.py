"""A session whose job store fails for a while: real session and store, and a detector that detects nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from service_checks import write_clip

from motserve.config import Config, change_config, load_config
from motserve.files.atomic import append_whole
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import Backends, ModelInfo
from motserve.serving.observability.progress import Progress
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.observability.tracing import Tracing
from motserve.serving.session.checkpoint import Checkpoint, CheckpointStore
from motserve.serving.session.lease import Lease, Superseded
from motserve.serving.session.memory_limit import MemoryLimit, own_memory
from motserve.serving.session.model_client import ModelClient
from motserve.serving.session.resume import Continuation
from motserve.serving.session.retry import Retry
from motserve.serving.session.video_models import VideoModels
from motserve.serving.session.video_session import VideoSession
from motserve.serving.stores import ArtifactStore, Job, JobStore
from motserve.types import Detections

Write = Callable[..., bool]


class Call:
    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer

    async def remote(self, *values: Any) -> Any:
        return self.answer(*values)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 1)


@dataclass
class Parts:
    """A session and what it was built from, for tests to replace or call."""

    session: VideoSession
    lease: Lease
    continuation: Continuation
    detector: Any

    def track(self) -> str | None:
        return asyncio.run(asyncio.wait_for(self.session.run(), 60))


def detect_nothing(images: list[Any], *_: Any) -> list[Detections]:
    return [Detections.empty() for _ in images]


def parts_of(
    job: Job,
    config: Config,
    detect: Callable[..., Any] = detect_nothing,
    is_draining: Callable[[], bool] = lambda: False,
    memory: MemoryLimit = MemoryLimit(1 << 40),  # noqa: B008
) -> Parts:
    storage = config.serving.storage_dir
    info = Call(lambda _: ModelInfo({"name": "fake", "sha256": "a1"}, {0: "person"}))
    handle: Any = SimpleNamespace(info=info, infer=Call(detect), record=Call(lambda _: None))
    progress = Progress()
    telemetry = Telemetry(job.id, progress, handle.record.remote, None, Tracing(config.serving.tracing, "test"))
    client = ModelClient(
        Backends(handle, handle, handle),
        Retry(config.serving.session, progress),
        RequestContext,
        share=lambda images: images,
    )
    artifacts = ArtifactStore(storage)
    lease = Lease(JobStore(storage), job, config.serving.session, is_draining, progress.stalled_s)
    continuation = Continuation(job, artifacts, config)
    session = VideoSession(
        job,
        config,
        artifacts=artifacts,
        lease=lease,
        models=VideoModels(client, ActiveModels(storage, "deployment"), config, job.id),
        continuation=continuation,
        identities=None,
        progress=progress,
        telemetry=telemetry,
        memory=memory,
        report_interval_s=0.0,
    )
    return Parts(session, lease, continuation, handle)


def config_in(folder: Path, **session: Any) -> Config:
    serving = {"storage_dir": str(folder), "session": {"lease_s": 1, **session}, "metrics": {"per_video": False}}
    fixed = {"detector": {"weights": "bundled"}, "reid": {"policy": "off"}, "disk": {"wait_s": 0}}
    return load_config([{**fixed, "serving": serving}])


@pytest.fixture
def parts(clip: Path, tmp_path: Path) -> Parts:
    """The second session of a video; the first one has written a checkpoint."""
    config = config_in(tmp_path)
    jobs = JobStore(tmp_path)
    jobs.add(Job("a", "clip.mp4", str(clip), 0.0, attempt=1, heartbeat=1.0), 10, 5)
    artifacts = ArtifactStore(tmp_path)
    artifacts.create("a")
    CheckpointStore(artifacts, "a", config).save(0, Checkpoint())
    return parts_of(jobs.get("a"), config)


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


def test_progress_that_cannot_be_written_does_not_fail_a_video(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = failing(monkeypatch, lambda changes: changes.get("status") == "running" and "frames_done" in changes)
    assert parts.track() == "done"
    assert (JobStore(tmp_path).get("a").status, JobStore(tmp_path).get("a").frames_done) == ("done", 25)
    lines = [record for record in caplog.records if record.getMessage().startswith("progress could not be written")]
    assert len(lines) == sum("frames_done" in changes for changes in tried) - 1 > 0
    assert (lines[0].levelno, vars(lines[0])["video_id"]) == (logging.WARNING, "a")
    assert vars(lines[0])["frame"] > 0


@pytest.mark.parametrize("change", ["video", "status"])
def test_start_and_end_are_retried_until_the_store_accepts_them(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    left = [True, True]
    conditions: dict[str, Callable[[dict[str, Any]], bool]] = {
        "video": lambda changes: "video" in changes,
        "status": lambda changes: changes.get("status") == "done",
    }
    failing(monkeypatch, lambda changes: conditions[change](changes) and bool(left) and left.pop())
    assert parts.track() == "done"
    assert left == []
    assert JobStore(tmp_path).get("a").status == "done"
    assert ArtifactStore(tmp_path).checkpoints("a") == []


def test_the_lease_check_before_the_tracks_are_changed_is_retried(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = failing(monkeypatch, lambda _: len(tried) <= 3)
    assert parts.track() == "done"
    assert JobStore(tmp_path).get("a").status == "done"


@pytest.mark.parametrize("status", ["running", "done"])
def test_a_video_whose_start_or_end_cannot_be_written_is_left_to_the_next_session(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """Also if the store still accepts heartbeats, as one on a full disk may."""
    failing(monkeypatch, lambda changes: changes.get("status") == status)
    assert parts.track() is None
    assert JobStore(tmp_path).get("a").status == {"running": "queued", "done": "running"}[status]
    assert ArtifactStore(tmp_path).checkpoints("a"), "no session can resume it"


def test_the_error_of_a_video_is_retried_until_the_store_accepts_it(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [True, True]
    parts.detector.infer = Call(lambda *_: 1 / 0)
    failing(monkeypatch, lambda changes: changes.get("status") == "failed" and bool(left) and left.pop())
    assert parts.track() == "failed"
    job = JobStore(tmp_path).get("a")
    assert (job.status, job.error) == (
        "failed", {"type": "ZeroDivisionError", "message": "tracking stopped after frame 0: division by zero"},
    )  # fmt: skip
    assert left == []


def test_a_heartbeat_after_the_end_changes_nothing(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, end = parts.lease, parts.continuation.remove_checkpoints

    def late() -> None:
        lease.write()
        end()

    monkeypatch.setattr(parts.continuation, "remove_checkpoints", late)
    assert parts.track() == "done"


def test_checkpoints_that_cannot_be_removed_do_not_fail_a_video(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stale(*_: Any, **__: Any) -> None:
        raise OSError(116, "Stale file handle")

    end = parts.continuation.remove_checkpoints

    def failing_end() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", stale)
            end()

    monkeypatch.setattr(parts.continuation, "remove_checkpoints", failing_end)
    assert parts.track() == "done"
    assert JobStore(tmp_path).get("a").status == "done"


def test_a_failure_after_the_end_of_a_video_does_not_change_its_job(parts: Parts, tmp_path: Path) -> None:
    assert parts.track() == "done"
    with pytest.raises(Superseded):
        parts.lease.write(status="failed")
    assert JobStore(tmp_path).get("a").status == "done"


def test_the_store_is_never_called_on_the_event_loop(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert parts.track() == "done"
    assert not any(on_the_loop)


def test_a_video_ends_before_the_disk_is_too_full_to_record_why(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motserve.serving.stores.disk_space.free_bytes", lambda _: 1_000_000)
    assert parts.track() == "failed"
    error = JobStore(tmp_path).get("a").error
    assert error is not None
    assert error["type"] == "DiskFull"
    assert "the disk of the service (serving.storage_dir) has 1.0 MB left (disk.reserve_bytes)" in error["message"]
    assert str(tmp_path) not in error["message"]


def test_a_video_waits_while_the_disk_is_full_and_loses_no_frame(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert parts_of(stored(undisturbed, clip), config_in(undisturbed), box_of).track() == "done"
    append, refusals = append_whole, iter([False, True, True, False, True])

    def sometimes(file: Any, content: bytes) -> None:
        if next(refusals, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(file, content)

    monkeypatch.setattr("motserve.results.result_file.append_whole", sometimes)
    monkeypatch.setattr("motserve.serving.session.disk_wait._POLL_S", 0.01)
    config = change_config(config_in(disturbed), {"disk": {"wait_s": 60}})
    with caplog.at_level(logging.INFO, "motserve.session"):
        assert parts_of(stored(disturbed, clip), config, box_of).track() == "done"
    results = [ArtifactStore(folder).results("a").read_bytes() for folder in (undisturbed, disturbed)]
    assert results[0] == results[1]
    assert [text.partition(":")[0].partition(" after")[0] for text in caplog.messages if "room" in text] == [
        "the video waits for room on the disk", "there is room again"
    ] * 2  # fmt: skip


@pytest.mark.parametrize("how", ["removed", "replaced", "truncated"])
def test_a_video_whose_tracks_vanish_does_not_end_as_done(parts: Parts, tmp_path: Path, how: str) -> None:
    results = ArtifactStore(tmp_path).results("a")
    detect = parts.detector.infer.answer

    def vanish(*values: Any) -> Any:
        if results.exists():
            if how == "removed":
                results.unlink()
            elif how == "replaced":
                results.rename(results.with_name("moved"))
                results.write_bytes(b"")
            else:
                os.truncate(results, 0)
        return detect(*values)

    parts.detector.infer.answer = vanish
    assert parts.track() == "failed"
    error = JobStore(tmp_path).get("a").error
    assert error is not None
    assert (error["type"], "start again" in error["message"]) == ("InvalidData", True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_tracks_without_disk_space_fail_the_video_and_its_checkpoints_are_removed_first(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: Any) -> None:
        raise OSError(number, "No space left on device")

    def is_refused(changes: dict[str, Any]) -> bool:
        return changes.get("status") == "failed" and bool(ArtifactStore(tmp_path).checkpoints("a"))

    monkeypatch.setattr("motserve.results.result_file.append_whole", full)
    CheckpointStore(ArtifactStore(tmp_path), "a", load_config()).save(1, Checkpoint())
    tried = failing(monkeypatch, is_refused)
    assert parts.track() == "failed"
    job = JobStore(tmp_path).get("a")
    assert (job.status, (job.error or {})["type"]) == ("failed", "DiskFull")
    assert (
        "tracking stopped after frame 0: the disk of the service (serving.storage_dir) has no room left"
        in (job.error or {})["message"]
    )
    assert [changes["status"] for changes in tried if "status" in changes].count("failed") == 1


def box_of(images: list[np.ndarray], *_: Any) -> list[Detections]:
    """A box whose place depends on the picture alone, so that sessions that see the same picture agree."""
    places = [50 + int(picture.astype(np.int64).sum()) % 7 for picture in images]
    boxes = [np.array([[place, 50, place + 40, 150]], np.float32) for place in places]
    return [Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int64)) for box in boxes]


def stored(folder: Path, clip: Path) -> Job:
    jobs = JobStore(folder)
    jobs.add(Job("a", "clip.mp4", str(clip), 0.0, heartbeat=1.0), 10, 5)
    ArtifactStore(folder).create("a")
    return jobs.get("a")


def test_a_session_leaves_a_draining_node_and_its_successor_gives_the_same_tracks(clip: Path, tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert parts_of(stored(undisturbed, clip), config_in(undisturbed), box_of).track() == "done"

    config = config_in(disturbed, checkpoint_s=60)
    job = stored(disturbed, clip)
    first = parts_of(job, config, box_of, is_draining=lambda: True)
    assert first.track() is None
    jobs = JobStore(disturbed)
    released = jobs.get("a")
    assert (released.status, released.heartbeat) == ("running", 0.0)
    assert 0 < released.frames_done < 25
    successor = jobs.take_over(released)
    assert successor is not None
    assert parts_of(successor, config, box_of).track() == "done"
    assert jobs.get("a").frames_done == 25
    results = [ArtifactStore(folder).results("a").read_bytes() for folder in (undisturbed, disturbed)]
    assert results[0] == results[1]
    assert results[0].count(b"\n") >= 25


def test_a_deleted_video_ends_its_session(parts: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    JobStore(tmp_path).delete("a")
    assert parts.track() is None
    assert "was deleted or taken over" in caplog.text


def test_readers_wake_when_frames_are_written_and_when_the_file_is_complete() -> None:
    async def run() -> tuple[bool, bool]:
        progress = Progress()
        early = asyncio.create_task(progress.wait_for_frames(0))
        await asyncio.sleep(0)
        assert not early.done()
        await progress.add_written(4)
        late = asyncio.create_task(progress.wait_for_frames(4))
        await asyncio.sleep(0)
        assert not late.done()
        await progress.finish()
        return await early, await late

    assert asyncio.run(asyncio.wait_for(run(), 10))[1]


def test_a_video_that_needs_too_much_memory_fails_alone_with_the_reason(clip: Path, tmp_path: Path) -> None:
    used = [200 << 20]

    def grow(images: list[Any], *_: Any) -> list[Detections]:
        used[0] += 60 << 20
        return detect_nothing(images)

    memory = MemoryLimit(300 << 20, lambda: used[0], check_s=0)
    assert parts_of(stored(tmp_path, clip), config_in(tmp_path), grow, memory=memory).track() == "failed"
    error = JobStore(tmp_path).get("a").error
    assert error is not None
    assert error["type"] == "OutOfMemory"
    assert "320 MiB, the limit is 300 MiB (serving.session.memory_bytes)" in error["message"]


def test_the_memory_of_this_process_is_measured() -> None:
    before = own_memory()
    with mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:  # an array may reuse freed memory
        block.write(b"1" * (64 << 20))
        assert 0 < before < own_memory() - (48 << 20)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can give blocks back at once")
def test_large_blocks_are_given_back_as_soon_as_they_are_free() -> None:
    """In a process of its own: it is a setting of the process."""
    program = """if True:
        import numpy as np
        from motserve.serving.session.memory_limit import own_memory, return_large_blocks
        assert return_large_blocks()
        frames = [np.ones(6 << 20, np.uint8) for _ in range(8)]
        after = [np.ones(1000, np.uint8) for _ in range(1000)]  # in the way of a heap that could shrink
        before = own_memory()
        del frames[:-1]
        print(before - own_memory())
    """
    freed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(freed) > 40 << 20

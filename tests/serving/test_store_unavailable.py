"""What the service does while its stores are locked by another process, read-only or away."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from service_checks import eventually, service_without_cluster, write_clip

from motserve.errors import Overloaded
from motserve.people import database
from motserve.serving.api import Service, build_http
from motserve.serving.api.routes import videos
from motserve.serving.session.launcher import SessionLauncher
from motserve.serving.stores import JOBS_FILE, Job, JobStore

WAIT_S = 0.2
"""Seconds that calls wait for a locked store in these tests."""


@contextmanager
def locked(folder: Path, how: str = "BEGIN EXCLUSIVE") -> Iterator[None]:
    """Hold the lock of the job store, as another process may."""
    with closing(sqlite3.connect(folder / JOBS_FILE, isolation_level=None)) as other:
        other.execute(how)
        other.execute("SELECT * FROM jobs").fetchall()
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 0.2).read_bytes()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    service = service_without_cluster(tmp_path / "store", monkeypatch)
    monkeypatch.setattr(service.jobs, "_busy_timeout_s", WAIT_S)
    return service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service), raise_server_exceptions=False) as client:
        yield client


def storage(service: Service) -> Path:
    return service.config.serving.storage_dir


def refused(answer: httpx.Response, state: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:motserve:problem:storage-unavailable"
    assert answer.json()["detail"] == f"the storage of the service (serving.storage_dir) {state}; try again later"


# --- requests ---------------------------------------------------------------------------------------------------------


def test_requests_to_a_locked_store_get_503_and_leave_nothing(
    client: httpx.Client, service: Service, clip: bytes
) -> None:
    file = {"file": ("clip.mp4", clip)}
    posted = client.post("/v1/videos", files=file)
    assert posted.status_code == 202
    state = posted.headers["location"]
    folders = sorted((storage(service) / "videos").iterdir())
    with locked(storage(service)):
        answers = [client.get("/v1/videos"), client.get(state), client.get(f"{state}/tracks"), client.get("/readyz")]
        answers += [client.post("/v1/videos", files=file), client.post(f"{state}/retry"), client.delete(state)]
        for answer in answers:
            refused(answer, "is locked by another process")
        assert client.get("/healthz").status_code == 200
        assert sorted((storage(service) / "videos").iterdir()) == folders
    assert [client.get(state).status_code, client.delete(state).status_code] == [200, 204]


def test_a_locked_store_holds_up_no_request_that_does_not_need_it(service: Service) -> None:
    """More requests wait for the store than the event loop has threads."""
    entered, release = threading.Semaphore(0), threading.Event()

    def wait(_: str) -> Job:
        entered.release()
        release.wait(30)
        return Job("a", "a.mp4", "/a", 0.0)

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        reads = [asyncio.create_task(videos.get_video("a", at_store(service, wait))) for _ in range(20)]
        try:
            for _ in reads:
                assert await asyncio.wait_for(service.stores.run(entered.acquire, True, 10, limit_s=None), 30)
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 30) == "free"
        finally:
            release.set()
        assert {status.id for status in await asyncio.gather(*reads)} == {"a"}

    asyncio.run(run())


def at_store(service: Service, get: Callable[[str], Job]) -> Service:
    jobs: Any = service.jobs
    jobs.get = get
    return service


def test_a_store_that_does_not_answer_is_not_waited_for(service: Service) -> None:
    release = threading.Event()

    async def run() -> None:
        try:
            with pytest.raises(Overloaded, match=r"does not answer within 0\.05 s; try again later") as error:
                await service.stores.run(release.wait, 30, limit_s=0.05)
            assert error.value.retry_after_s == 5
        finally:
            release.set()

    asyncio.run(run())


def test_a_stream_of_tracks_goes_on_after_a_lock(
    client: httpx.Client, service: Service, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "_POLL_S", 0.01)
    refusals: list[str] = []
    get = service.jobs.get

    def sometimes(video_id: str) -> Job:
        if len(refusals) < 3:
            refusals.append(video_id)
            raise sqlite3.OperationalError("jobs.sqlite: database is locked")
        service.jobs.write(video_id, 0, status="failed", error={"type": "T", "message": "m"})
        return get(video_id)

    monkeypatch.setattr(service.jobs, "get", sometimes)
    answer = client.post("/v1/videos", params={"wait": True}, files={"file": ("clip.mp4", clip)})
    assert (answer.status_code, answer.text) == (200, '{"error":{"type":"T","message":"m"}}\n')
    assert len(refusals) == 3


def test_a_store_whose_disk_is_gone_is_not_replaced_by_an_empty_one(
    client: httpx.Client, service: Service, clip: bytes, tmp_path: Path
) -> None:
    posted = client.post("/v1/videos", files={"file": ("clip.mp4", clip)})
    state = posted.headers["location"]
    away = storage(service).rename(tmp_path / "away")
    refused(client.get(state), "is not there")
    refused(client.get("/readyz"), "is not there")
    refused(client.post("/v1/videos", files={"file": ("clip.mp4", clip)}), "is not there")
    assert not storage(service).exists()
    storage(service).mkdir()  # the mount point of the disk
    refused(client.get(state), "is not there")
    refused(client.post("/v1/videos", files={"file": ("clip.mp4", clip)}), "is not there")
    assert [path for path in storage(service).rglob("*") if path.is_file()] == []
    for path in sorted(storage(service).rglob("*"), reverse=True):
        path.rmdir()
    storage(service).rmdir()
    away.rename(storage(service))
    assert client.get(state).status_code == 200


def test_a_read_only_store_can_be_read_and_is_not_ready(
    client: httpx.Client, service: Service, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = client.post("/v1/videos", files={"file": ("clip.mp4", clip)})
    state = posted.headers["location"]
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda path, *values, **named: connect(path.replace("mode=rw", "mode=ro"), *values, **named),
    )
    assert client.get(state).status_code == 200
    for answer in (
        client.get("/readyz"),
        client.post("/v1/videos", files={"file": ("clip.mp4", clip)}),
        client.delete(state),
    ):
        refused(answer, "is read-only")


@pytest.mark.parametrize(
    ("number", "state"), [(30, "is read-only"), (5, "cannot be read or written"), (116, "is not there")]
)
def test_an_upload_to_a_broken_disk_gets_503(
    client: httpx.Client, service: Service, clip: bytes, monkeypatch: pytest.MonkeyPatch, number: int, state: str
) -> None:
    def broken(_: str) -> Path:
        raise OSError(number, "broken")

    monkeypatch.setattr(service.artifacts, "create", broken)
    refused(client.post("/v1/videos", files={"file": ("clip.mp4", clip)}), state)


def test_a_service_starts_although_the_remains_of_videos_cannot_be_removed(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(storage(service)):
        (storage(service) / "videos" / ("a" * 32)).mkdir(parents=True)
        service.sessions.reconcile()
    assert "stay until the next start: jobs.sqlite: database is locked" in caplog.text


def test_a_process_waits_at_its_start_for_a_locked_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    JobStore(tmp_path)
    original = database.transaction
    monkeypatch.setattr(database, "transaction", lambda path, wait_s=WAIT_S, **named: original(path, wait_s, **named))
    opened: list[JobStore] = []
    with locked(tmp_path):
        opening = threading.Thread(target=lambda: opened.append(JobStore(tmp_path)))
        opening.start()
        eventually(lambda: "locked by another process; waiting" in caplog.text, "the log line", 30)
        assert not opened
    opening.join(30)
    assert opened


# --- sessions ---------------------------------------------------------------------------------------------------------


class Judge:
    """A launcher whose clock, reads and verdicts the test decides."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        self.launcher: SessionLauncher = service.sessions
        self.killed: list[str] = []
        self.error: Exception | None = None
        self.waits_s = 0.0
        active = service.jobs.active

        def read() -> list[Job]:
            self.now += self.waits_s
            if self.error:
                raise self.error
            return active()

        monkeypatch.setattr(service.jobs, "active", read)
        monkeypatch.setattr(self.launcher, "_clock", lambda: self.now)
        monkeypatch.setattr(self.launcher, "_all_draining", lambda: False)
        monkeypatch.setattr(self.launcher, "find", lambda job: job.id)
        monkeypatch.setattr(self.launcher, "_kill", self.killed.append)


@pytest.mark.parametrize("waits_s", [5.0, 0.0], ids=["a read that waited", "a read that failed"])
def test_sessions_have_a_whole_lease_after_a_lock_before_they_count_as_hanging(
    service: Service, monkeypatch: pytest.MonkeyPatch, waits_s: float
) -> None:
    judge = Judge(service, monkeypatch)
    service.jobs.add(Job("a", "a.mp4", "/a", 0.0, status="running", began=True, heartbeat=judge.now - 40), 10, 5)
    if not waits_s:
        judge.error = sqlite3.OperationalError("jobs.sqlite: database is locked")
        with pytest.raises(sqlite3.OperationalError):
            judge.launcher.restart_lost()
        judge.error = None
    judge.waits_s = waits_s
    judge.launcher.restart_lost()
    judge.waits_s = 0.0
    judge.now += 10  # `lease_s`
    judge.launcher.restart_lost()
    assert judge.killed == []
    judge.now += 0.1
    judge.launcher.restart_lost()
    assert judge.killed == ["a"]


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", "BEGIN"], ids=["a writer", "a reader"])
def test_no_session_is_killed_while_another_process_keeps_it_from_writing(
    service: Service, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Reads of the store succeed, so that only the heartbeats are missing."""
    judge = Judge(service, monkeypatch)
    service.jobs.add(Job("a", "a.mp4", "/a", 0.0, status="running", began=True, heartbeat=judge.now - 40), 10, 5)
    with locked(storage(service), how):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            judge.launcher.restart_lost()
        assert judge.killed == []
    judge.launcher.restart_lost()
    assert judge.killed == [], "the session had no time for a heartbeat"
    judge.now += 10.1
    judge.launcher.restart_lost()
    assert judge.killed == ["a"]
    assert service.jobs.get("a").attempt == 1


def test_an_error_of_a_store_is_not_taken_for_a_lack_of_an_answer(service: Service) -> None:
    def fail() -> None:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    for limit_s in (None, 20.0):
        with pytest.raises(OSError, match="Connection timed out"):
            asyncio.run(service.stores.run(fail, limit_s=limit_s))

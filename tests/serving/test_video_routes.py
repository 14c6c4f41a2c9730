"""The routes of videos with real stores and without a cluster: sessions are not really started."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from ray.exceptions import RayTaskError
from service_checks import service_without_cluster, write_clip

from motserve.errors import MotserveError, NotFound, Overloaded
from motserve.serving.api import Service, build_http
from motserve.serving.api.routes import videos
from motserve.serving.api.run_to_completion import run_to_completion
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.stores import Job


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 0.2)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    return service_without_cluster(tmp_path, monkeypatch)


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service), raise_server_exceptions=False) as client:
        yield client


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("there is no video"), 404), (Overloaded("all sessions are running", 7), 503)]
)
def test_an_error_of_another_process_gets_the_status_of_its_cause(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: MotserveError, status: int
) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    failed = RayTaskError("draw", "Traceback (most recent call last):\n  File …", arrived).as_instanceof_cause()
    assert isinstance(failed, MotserveError)
    monkeypatch.setattr(service.jobs, "get", raising(failed))
    answer = client.get("/v1/videos/a")
    assert (answer.status_code, answer.json()["detail"]) == (status, str(error))
    assert answer.json()["title"] == {404: "Not found", 503: "Overloaded"}[status]
    assert answer.headers.get("retry-after") == {404: None, 503: "7"}[status]


# --- uploads ----------------------------------------------------------------------------------------------------------


FORM = {"content-type": "multipart/form-data; boundary=x"}
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
FIELD = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\n'
END = b"\r\n--x--\r\n"


def stream_of(*parts: bytes) -> Iterator[bytes]:
    yield from parts


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/identities/search"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([FIELD, bytes(100_000), b"\r\n", FILE, b"video", END], "more than 65536 bytes besides its file"),
        ([FILE, b"video\r\n", *[FIELD + bytes(1000) + b"\r\n"] * 70, END], "more than 65536 bytes besides its file"),
        ([FILE, b"video\r\n", *[FIELD + b"\r\n"] * 2000, END], "more than 65536 bytes besides its file"),
        ([FILE, b"video\r\n", FILE, b"video", END], "exactly one file, it holds 2"),
    ],
    ids=["a large field", "many fields", "many empty fields", "two files"],
)
def test_a_form_with_two_files_or_large_fields_is_refused(
    client: httpx.Client, tmp_path: Path, path: str, body: list[bytes], message: str
) -> None:
    answer = client.post(path, content=stream_of(*body), headers=FORM)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["detail"]
    assert list(tmp_path.glob("videos/*")) == []


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/identities/search"])
@pytest.mark.parametrize("body", [b"no form", b"--y\r\n", FILE + b"video\r\n--x\rno"])
def test_a_malformed_form_is_answered_and_its_parser_logs_nothing(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, path: str, body: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    assert client.post(path, content=body, headers=FORM).status_code == 400
    assert [record.name for record in caplog.records if record.name.startswith("python_multipart")] == []


def test_a_second_file_is_refused_before_it_has_arrived(client: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        yield FILE + b"video\r\n" + FILE
        for _ in range(20):
            yield bytes(256 << 10)

    answer = client.post("/v1/videos", content=body(), headers=FORM)
    assert "it holds 2" in answer.json()["detail"]


def test_a_large_file_may_come_with_small_fields(client: httpx.Client, service: Service, clip: Path) -> None:
    data = clip.read_bytes() + bytes(100_000)
    answer = client.post("/v1/videos", data={"note": "n" * 60_000}, files={"file": ("clip.mp4", data)})
    assert answer.status_code == 202, answer.text
    assert service.artifacts.source(answer.json()["id"]).read_bytes() == data


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_an_upload_has_the_permissions_of_the_umask(
    client: httpx.Client, service: Service, clip: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        answer = client.post("/v1/videos", files={"file": ("clip.mp4", clip.read_bytes())})
    finally:
        os.umask(before)
    folder = service.artifacts.source(answer.json()["id"]).parent
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {"source": mode}


# --- blocking calls and clients that disconnect -----------------------------------------------------------------------


def test_stores_are_never_called_on_the_event_loop(
    client: httpx.Client, service: Service, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, bool]] = []

    def recorded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def record(*values: Any) -> Any:
            calls.append((name, on_a_loop()))
            return call(*values)

        return record

    for name in ("add", "get", "page", "delete"):
        monkeypatch.setattr(service.jobs, name, recorded(name, getattr(service.jobs, name)))
    monkeypatch.setattr(service.artifacts, "delete", recorded("delete files", service.artifacts.delete))
    monkeypatch.setattr(service.sessions, "_launch", lambda job, _: service.jobs.write(job.id, 0, status="done"))
    posted = client.post("/v1/videos", params={"wait": True}, files={"file": ("clip.mp4", clip.read_bytes())})
    state = posted.headers["location"]
    assert [posted.status_code, client.get("/v1/videos").status_code, client.get(state).status_code] == [200] * 3
    assert client.get(f"{state}/tracks").status_code == 200
    monkeypatch.setattr(videos, "annotated_file", raising(NotFound("not rendered in this test")))
    assert client.get(f"{state}/annotated.mp4").status_code == 404
    assert client.delete(state).status_code == 204
    assert client.post("/v1/videos", files={"file": ("no.mp4", b"no video")}).status_code == 422
    assert {name for name, _ in calls} == {"add", "get", "page", "delete", "delete files"}
    assert [name for name, on_loop in calls if on_loop] == []


def on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("starts", [True, False])
def test_a_disconnect_while_a_session_starts_leaves_a_complete_video_or_none(
    service: Service, clip: Path, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    started, released, ended = threading.Event(), threading.Event(), threading.Event()
    start = service.sessions.start

    def slow_start(job: Job, context: RequestContext) -> None:
        started.set()
        released.wait(30)
        start(job, context)

    def launch(*_: Any) -> None:
        if not starts:
            raise RuntimeError("no cluster")

    def finished(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*values: Any) -> Any:
            try:
                return call(*values)
            finally:
                ended.set()

        return run

    monkeypatch.setattr(service.sessions, "start", slow_start)
    monkeypatch.setattr(service.sessions, "_launch", launch)
    monkeypatch.setattr(videos, "run_to_completion", lambda call, _=None: run_to_completion(finished(call)))

    async def leave() -> None:
        accepting = asyncio.create_task(videos._accept(posted(clip.read_bytes()), service))
        await asyncio.to_thread(started.wait, 30)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        released.set()
        await asyncio.to_thread(ended.wait, 30)

    asyncio.run(leave())
    rows = [job.id for job in service.jobs.page(10)]
    assert len(rows) == int(starts)
    assert service.artifacts.videos() == rows
    assert all(service.artifacts.source(video).exists() for video in rows)


def test_a_disconnect_while_a_video_is_deleted_does_not_stop_the_deletion(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.jobs.add(Job("a", "clip.mp4", "clip.mp4", 1.0), 10, 5)
    (service.artifacts.create("a") / "tracks.ndjson").write_bytes(b"{}")
    started, released, forgotten = threading.Event(), threading.Event(), threading.Event()
    delete = service.jobs.delete

    def slow_delete(video_id: str) -> None:
        started.set()
        released.wait(30)
        delete(video_id)

    monkeypatch.setattr(service.jobs, "delete", slow_delete)
    monkeypatch.setattr(service.sessions, "stop", lambda _: None)
    monkeypatch.setattr(service.identities, "remove", lambda _: forgotten.set())

    async def leave() -> None:
        deleting = asyncio.create_task(videos.delete_video("a", service))
        await asyncio.to_thread(started.wait, 30)
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        released.set()
        assert await asyncio.to_thread(forgotten.wait, 30)

    asyncio.run(leave())
    assert service.jobs.page(10) == []
    assert not service.artifacts.results("a").parent.exists()


def test_a_call_that_waits_for_a_thread_is_not_cancelled() -> None:
    done = threading.Event()

    async def leave() -> None:
        free = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        busy = asyncio.get_running_loop().run_in_executor(None, free.wait, 30)
        submitting = asyncio.create_task(run_to_completion(done.set))
        await asyncio.sleep(0)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        free.set()
        await busy
        await asyncio.to_thread(done.wait, 0.0)

    asyncio.run(leave())
    assert done.is_set()


def posted(video: bytes) -> Request:
    """A request as it comes from the server."""
    headers = [(b"content-type", FORM["content-type"].encode())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": FILE + video + END, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/v1/videos", "headers": headers}, receive)


def test_partial_tracks_of_a_failed_video_are_returned_on_request(client: httpx.Client, service: Service) -> None:
    error = {"type": "InvalidVideo", "message": "clip.mp4 is cut off"}
    job = Job("a" * 32, "clip.mp4", "", 0.0, status="failed", frames_done=1, frames_damaged=2, error=error)
    service.jobs.add(job, 100, 5)
    service.artifacts.create(job.id)
    service.artifacts.results(job.id).write_text('{"frame":0,"timestamp":0.0,"tracks":[]}\n')
    tracks = f"/v1/videos/{job.id}/tracks"
    refused = client.get(tracks)
    assert refused.status_code == 409
    assert "failed after 1 frames: clip.mp4 is cut off; ?partial=true" in refused.json()["detail"]
    answer = client.get(tracks, params={"partial": "true"}).json()
    assert len(answer["frames"]) == 1
    assert (answer["summary"]["status"], answer["summary"]["error"]) == ("failed", "clip.mp4 is cut off")
    assert client.get(f"/v1/videos/{job.id}").json()["frames_damaged"] == 2


def test_a_failed_video_is_tracked_again_on_request(client: httpx.Client, service: Service, clip: Path) -> None:
    error = {"type": "SessionLost", "message": "x"}
    service.jobs.add(Job("a", "a.mp4", str(clip), 0.0, status="failed", error=error, attempt=2), 9, 5)
    answer = client.post("/v1/videos/a/retry")
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (202, "queued", None)
    assert client.get("/v1/videos/a").json()["status"] == "queued"
    assert client.post("/v1/videos/a/retry").status_code == 409
    assert client.post("/v1/videos/b/retry").status_code == 404
    service.jobs.add(Job("c", "c.mp4", str(clip.parent / "gone"), 0.0, status="failed", error=error), 9, 5)
    answer = client.post("/v1/videos/c/retry")
    assert (answer.status_code, "is no longer there; post it again" in answer.json()["detail"]) == (409, True)

"""Uploads with unusual names, from disallowed URLs and to a full disk, with real stores and without a cluster."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from service_checks import service_without_cluster, write_clip

from motserve.files.disk import free_bytes
from motserve.serving.api import Service, build_http
from motserve.serving.api.routes import videos
from motserve.serving.stores import Job, disk_space


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 0.2)


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    folder = tmp_path / "roots"
    folder.mkdir()
    return folder


@pytest.fixture
def service(tmp_path: Path, roots: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    return service_without_cluster(tmp_path / "data", monkeypatch, serving={"allowed_roots": [str(roots)]})


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service), raise_server_exceptions=False) as client:
        yield client


FORM = {"content-type": "multipart/form-data; boundary=x"}


def form(name: bytes, data: bytes) -> bytes:
    return (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="'
        + name
        + b'"\r\n\r\n'
        + data
        + b"\r\n--x--\r\n"
    )


def stored_videos(service: Service) -> list[str]:
    """IDs of the videos that have a row or a folder."""
    return sorted({*service.artifacts.videos(), *(job.id for job in service.jobs.page(100))})


def assert_problem(answer: httpx.Response, status: int, *messages: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    for message in messages:
        assert message in answer.json()["detail"]


# --- names and URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xe9.mp4", r"caf\xe9.mp4"),
        ("café.mp4".encode(), "café.mp4"),
        (b"../../etc/passwd", "passwd"),
        (rb"C:\\videos\\clip.mp4", "clip.mp4"),
        (b"a\x1b[31m\x00b.mp4", r"a\x1b[31m\x00b.mp4"),
        (b"n" * 300 + b".mp4", "n" * 255),
        (b"", "video"),
        (b"/", "video"),
    ],
)
def test_a_file_name_may_hold_any_bytes(
    client: httpx.Client, service: Service, clip: Path, name: bytes, shown: str
) -> None:
    answer = client.post("/v1/videos", content=form(name, clip.read_bytes()), headers=FORM)
    assert answer.status_code == 202, answer.text
    video = answer.json()["id"]
    assert client.get(f"/v1/videos/{video}").json()["name"] == shown
    assert client.get(f"/v1/videos/{video}/tracks").json()["video"]["name"] == shown
    assert [row["name"] for row in client.get("/v1/videos").json()["videos"]] == [shown]


def test_error_messages_show_the_file_name_escaped(client: httpx.Client, service: Service) -> None:
    answer = client.post("/v1/videos", content=form(b"caf\xe9.mp4", b"no video"), headers=FORM)
    assert_problem(answer, 422, r"caf\xe9.mp4 is not a video")
    assert_problem(
        client.post("/v1/identities/search", content=form(b"\xe9", b"x"), headers=FORM), 422, r"\xe9 is neither"
    )
    assert stored_videos(service) == []


@pytest.mark.parametrize(
    ("name", "url"),
    [(b"caf\xe9.mp4", "caf%E9.mp4"), ("café.mp4".encode(), "caf%C3%A9.mp4"), (b"~ a?b#c.mp4", "~%20a%3Fb%23c.mp4")],
)
def test_percent_encoded_bytes_of_a_url_need_not_be_utf8(
    client: httpx.Client, service: Service, roots: Path, clip: Path, name: bytes, url: str
) -> None:
    source = roots / os.fsdecode(name)
    source.write_bytes(clip.read_bytes())
    answer = client.post("/v1/videos", json={"url": f"file://{roots}/{url}"})
    assert answer.status_code == 202, answer.text
    job = service.jobs.get(answer.json()["id"])
    assert Path(job.source) == source  # the store preserves the bytes
    assert job.name == name.decode(errors="backslashreplace")
    assert [active.source for active in service.jobs.active()] == [str(source)]


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("file://ROOTS/a.mp4?x=1", 400, "write ? and # in the path of a file as %3F and %23"),
        ("file://ROOTS/a.mp4#x", 400, "write ? and #"),
        ("file://ROOTS/%00.mp4", 400, "zero byte"),
        ("file://[", 400, "is not a valid URL"),
        ("file://elsewhere/a.mp4", 400, "only file://"),
        ("rtsp://ann:secret@cam/live", 400, "rtsp://cam/live: only file://"),
        ("a.mp4", 400, "only file://"),
        ("", 400, "only file://"),
        ("file:///~/a.mp4", 403, "allowed_roots"),
        ("file://ROOTS/../data/jobs.sqlite", 403, "allowed_roots"),
        ("file://ROOTS/%2e%2e/data/jobs.sqlite", 403, "allowed_roots"),
        ("file://ROOTS/out.mp4", 403, "allowed_roots"),
        ("file://ROOTS/circle.mp4", 404, "no video at"),
        ("file://ROOTS/broken.mp4", 404, "no video at"),
        (f"file://ROOTS/{'n' * 300}", 404, "no video at"),
        (f"file://ROOTS/{'d/' * 3000}a.mp4", 404, "no video at"),
        ("file://ROOTS/pipe.mp4", 404, "no video at"),
        ("file://ROOTS", 403, "holds a link out of the folders that the service may read"),
        ("file://ROOTS/linked", 403, "holds a link out of the folders that the service may read"),
        ("file://ROOTS/empty", 422, "no images"),
        ("file://ROOTS/caf%E9.txt", 422, r"caf\xe9.txt is not a video"),
    ],
)
def test_invalid_and_forbidden_urls_are_refused(
    client: httpx.Client, service: Service, roots: Path, url: str, status: int, message: str
) -> None:
    (roots / "circle.mp4").symlink_to("circle.mp4")
    (roots / "broken.mp4").symlink_to("none.mp4")
    (roots / "out.mp4").symlink_to(roots.parent / "data" / "jobs.sqlite")
    (roots / os.fsdecode(b"caf\xe9.txt")).write_text("no video")
    os.mkfifo(roots / "pipe.mp4")
    (roots / "empty").mkdir()
    (roots / "linked" / "below").mkdir(parents=True)
    (roots / "linked" / "below" / "000001.png").symlink_to(roots.parent / "secret.png")
    answer = client.post("/v1/videos", json={"url": url.replace("ROOTS", str(roots))})
    assert_problem(answer, status, message)
    assert "secret" not in answer.text
    assert stored_videos(service) == []


# --- bodies, IDs and queries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "status", "message"),
    [
        ({}, b"", 415, "no content type"),
        ({"content-type": "text/plain"}, b"x", 415, "text/plain"),
        ({"content-type": "multipart/form-data"}, b"x", 400, "no boundary"),
        ({"content-type": "multipart/form-data; boundary="}, b"x", 400, "malformed"),
        ({"content-type": f"multipart/form-data; boundary={'b' * 300}"}, b"x", 400, "Boundary length 300 exceeds"),
        (FORM, b"", 400, "it holds 0"),
        (FORM, b"--x--\r\n", 400, "it holds 0"),
        (FORM, b"nothing of a form", 400, "malformed"),
        (FORM, form(b"a.mp4", b""), 400, "is empty"),
        (FORM, form(b"a.mp4", b"x")[:-10], 400, "it holds 0"),
        ({**FORM, "content-length": "x"}, b"x", 400, "Content-Length"),
        ({**FORM, "content-length": "-5"}, b"x", 400, "Content-Length"),
        ({**FORM, "content-length": "9" * 30}, b"x", 400, "Content-Length"),
        ({**FORM, "content-length": "9" * 15}, b"x", 413, "max_upload_bytes"),
        ({"content-type": "application/json"}, b"", 400, "the body must be"),
        ({"content-type": "application/json"}, b'{"url": 5}', 400, "the body must be"),
        ({"content-type": "application/json"}, b'{"url": "\xe9"}', 400, "the body must be"),
        ({"content-type": "application/json"}, b"[" * 60_000, 400, "the body must be"),
    ],
)
def test_a_body_without_a_video_is_refused(
    client: httpx.Client, service: Service, headers: dict[str, str], body: bytes, status: int, message: str
) -> None:
    request = client.build_request("POST", "/v1/videos", content=iter([body]), headers=headers)
    assert_problem(client.send(request), status, message)
    assert stored_videos(service) == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/videos/%2e%2e%2fjobs.sqlite",
        "/v1/videos/..%2f..%2fetc/tracks",
        "/v1/videos/%00/tracks",
        "/v1/videos/a%0d%0aX: y/tracks",
        "/v1/videos/%ff/annotated.mp4",
        f"/v1/videos/{'a' * 5000}",
        "/v1/videos?after=%00%ff",
    ],
)
def test_an_invalid_id_is_a_404(client: httpx.Client, path: str) -> None:
    assert_problem(client.get(path), 404)
    assert client.head(path).status_code == 404


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=1e9", f"limit={'9' * 5000}", "limit=1&limit=x"])
def test_an_invalid_query_is_a_422(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"/v1/videos?{query}"), 422, "limit")


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service whose storage is a file system of 256 kB with one video in it."""
    storage = tmp_path / "small"
    storage.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(storage)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        service = service_without_cluster(storage, monkeypatch, disk={"min_free_bytes": 0, "reserve_bytes": 0})
        service.jobs.add(Job("a" * 32, "clip.mp4", "clip.mp4", 1.0), 10, 5)
        (service.artifacts.create("a" * 32) / "source").write_bytes(bytes(65536))
        yield service
    finally:
        subprocess.run(["umount", "--lazy", str(storage)], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the parser leaves a file open
@pytest.mark.parametrize("data", [bytes(400_000), b"x" * 1000], ids=["large", "small"])
@pytest.mark.parametrize("sized", [True, False], ids=["with Content-Length", "without Content-Length"])
def test_an_upload_to_a_full_disk_leaves_no_files(small_service: Service, data: bytes, sized: bool) -> None:
    storage = small_service.config.serving.storage_dir
    least = 0 if len(data) < 4096 else 65536
    with (storage / "ballast").open("wb", buffering=0) as ballast:
        while free_bytes(storage) > least:
            ballast.write(bytes(4096))
    with TestClient(build_http(small_service), raise_server_exceptions=False) as client:
        body = form(b"a.mp4", data)
        answer = client.post("/v1/videos", content=body if sized else iter([body]), headers=FORM)
    assert_problem(answer, 507, "the disk of the service")
    assert str(storage) not in answer.text
    assert stored_videos(small_service) == ["a" * 32]


def test_an_upload_whose_file_cannot_be_created_is_a_507(
    client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    assert_problem(client.post("/v1/videos", content=form(b"a.mp4", b"x"), headers=FORM), 507)
    assert stored_videos(service) == []


def test_a_video_can_be_deleted_from_a_full_disk(small_service: Service) -> None:
    storage = small_service.config.serving.storage_dir
    with (storage / "ballast").open("wb", buffering=0) as ballast:
        while free_bytes(storage):
            ballast.write(bytes(4096))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        small_service.jobs.delete("a" * 32)
    with TestClient(build_http(small_service), raise_server_exceptions=False) as client:
        assert client.delete(f"/v1/videos/{'a' * 32}").status_code == 204
    assert stored_videos(small_service) == []


def test_free_space_is_checked_before_a_body_is_read(
    client: httpx.Client, service: Service, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 40_000_000)
    monkeypatch.setattr(videos, "receive_form", None)
    sized = {**FORM, "content-length": "30000000"}
    answer = client.post("/v1/videos", content=iter([b"x"]), headers=sized)
    assert_problem(answer, 507, "40.0 MB left", "30.0 MB are to be stored", "disk.min_free_bytes")
    assert answer.json()["type"] == "urn:motserve:problem:disk-full"
    assert stored_videos(service) == []


def test_an_annotated_video_is_not_rendered_without_free_space(
    client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.jobs.add(Job("a" * 32, "clip.mp4", "clip.mp4", 1.0), 10, 5)
    service.jobs.write("a" * 32, 0, status="done")
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 1000)
    assert_problem(client.get(f"/v1/videos/{'a' * 32}/annotated.mp4"), 507, "1.0 kB left")


def test_only_a_full_disk_is_a_507(client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Any:
        def call(*_: Any) -> Any:
            raise error

        return call

    for error, status in (
        (OSError(errno.EIO, "Input/output error", "/srv/data/x"), 503),
        (OSError(errno.EBADF, "Bad file descriptor", "/srv/data/x"), 500),
        (sqlite3.OperationalError("database is locked"), 503),
        (sqlite3.OperationalError("syntax error"), 500),
        (sqlite3.OperationalError("database or disk is full"), 507),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/data/x"), 507),
    ):
        monkeypatch.setattr(service.jobs, "page", fail(error))
        answer = client.get("/v1/videos")
        assert_problem(answer, status)
        assert "/srv" not in answer.text

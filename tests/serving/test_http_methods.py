"""HEAD for every GET, conditional requests (304) and ranges, with real stores and without a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from service_checks import service_without_cluster

from motserve.people.identity_summaries import IdentitySummary
from motserve.serving.api import Service, build_http
from motserve.serving.api.routes import videos
from motserve.serving.stores import Job

VIDEO = "a" * 32
PATH = f"/v1/videos/{VIDEO}"
FRAME = b'{"frame":0,"timestamp":0.0,"tracks":[]}\n'


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service with a finished video of one frame, whose annotated video is not rendered yet."""
    service = service_without_cluster(tmp_path, monkeypatch)
    service.jobs.add(Job(VIDEO, "clip.mp4", str(tmp_path / "clip.mp4"), 1.0), 10, 5)
    service.jobs.write(VIDEO, 0, status="done")
    service.artifacts.create(VIDEO)
    service.artifacts.results(VIDEO).write_bytes(FRAME)
    return service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service), raise_server_exceptions=False) as client:
        yield client


def headers_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "x-request-id"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/readyz", 503),
        ("/v1/videos", 200),
        ("/v1/videos?limit=0", 422),
        (PATH, 200),
        (f"{PATH}/tracks", 200),
        (f"{PATH}/tracks?format=csv", 200),
        (f"{PATH}/tracks?format=xml", 422),
        ("/v1/videos/unknown/annotated.mp4", 404),
        ("/v1/identities/1", 404),
        ("/v1/identities/1/thumbnail.jpg", 404),
        ("/v1/admin/models", 503),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/none", 404),
    ],
)
def test_head_is_get_without_a_body(client: httpx.Client, path: str, status: int) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, get.status_code) == (status, status)
    assert headers_of(head) == headers_of(get)
    assert head.content == b""


def test_every_route_with_get_has_head_and_the_schema_has_each_operation_once(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    operations = [(path, method) for path, methods in schema["paths"].items() for method in methods]
    assert {method for _, method in operations} == {"get", "post", "delete"}
    for path, method in operations:
        if method == "get":
            assert client.head(path.format(video_id=VIDEO, identity_id=1)).status_code != 405, path


def test_an_unknown_method_gets_405_with_the_allowed_methods(client: httpx.Client) -> None:
    for path, allowed in (("/healthz", "GET, HEAD"), ("/v1/videos", "GET, HEAD, POST"), (PATH, "GET, HEAD, DELETE")):
        answer = client.put(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.headers["content-type"] == "application/problem+json"


def test_head_does_not_render_the_annotated_video(
    client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def render(*_: Any) -> Path:
        path = service.artifacts.annotated(VIDEO)
        if not path.exists():
            path.write_bytes(b"video")
        return path

    monkeypatch.setattr(videos, "annotated_file", render)
    before = client.head(f"{PATH}/annotated.mp4")
    assert before.status_code == 200
    assert headers_of(before) == {"content-type": "video/mp4", "accept-ranges": "bytes"}
    assert not service.artifacts.annotated(VIDEO).exists()
    get = client.get(f"{PATH}/annotated.mp4")
    after = client.head(f"{PATH}/annotated.mp4")
    assert headers_of(after) == headers_of(get)
    assert after.headers["content-length"] == "5"


# --- conditional requests ---------------------------------------------------------------------------------------------


@pytest.fixture
def rendered(service: Service) -> Path:
    path = service.artifacts.annotated(VIDEO)
    path.write_bytes(bytes(1000))
    return path


@pytest.fixture
def identity(service: Service) -> int:
    service.identities.put(VIDEO, "model", [IdentitySummary(1, 0.0, 1.0, np.eye(1, 4, dtype=np.float32), b"jpeg")])
    (number,) = service.identities.of_video(VIDEO)
    return number


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("resource", ["annotated.mp4", "tracks", "tracks?format=mot", "thumbnail"])
def test_a_current_copy_of_the_client_is_a_304(
    client: httpx.Client, rendered: Path, identity: int, method: str, resource: str
) -> None:
    path = f"/v1/identities/{identity}/thumbnail.jpg" if resource == "thumbnail" else f"{PATH}/{resource}"
    etag = client.get(path).headers["etag"]
    assert etag.startswith('"')
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = client.request(method, path, headers={"If-None-Match": tags})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "content-length" not in answer.headers
    assert client.request(method, path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_date_counts_if_the_request_has_no_tag(client: httpx.Client, rendered: Path) -> None:
    for path in (f"{PATH}/annotated.mp4", f"{PATH}/tracks"):
        modified = client.get(path).headers["last-modified"]
        assert client.get(path, headers={"If-Modified-Since": modified}).status_code == 304
        assert client.get(path, headers={"If-Modified-Since": formatdate(0, usegmt=True)}).status_code == 200
        both = {"If-Modified-Since": modified, "If-None-Match": '"other"'}
        assert client.get(path, headers=both).status_code == 200
        for nonsense in ("yesterday", "", "Thu, 99 Foo 99999 99:99:99 GMT"):
            assert client.get(path, headers={"If-Modified-Since": nonsense}).status_code == 200


def test_formats_and_changes_have_different_tags(client: httpx.Client, service: Service) -> None:
    tags = {client.get(f"{PATH}/tracks", params={"format": name}).headers["etag"] for name in ("json", "mot", "csv")}
    assert len(tags) == 3
    results = service.artifacts.results(VIDEO)
    os.utime(results, (1, 1))
    assert client.get(f"{PATH}/tracks").headers["etag"] not in tags


def test_tracks_of_a_running_video_have_no_tag(client: httpx.Client, service: Service) -> None:
    service.jobs.add(Job("b" * 32, "clip.mp4", "clip.mp4", 2.0), 10, 5)
    answer = client.get(f"/v1/videos/{'b' * 32}/tracks", headers={"If-None-Match": "*"})
    assert answer.status_code == 200
    assert "etag" not in answer.headers


def test_ranges_work_with_conditional_requests_and_head(client: httpx.Client, rendered: Path) -> None:
    path = f"{PATH}/annotated.mp4"
    part = client.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.headers["content-range"], len(part.content)) == (206, "bytes 10-19/1000", 10)
    etag = part.headers["etag"]
    assert client.get(path, headers={"Range": "bytes=0-9", "If-None-Match": etag}).status_code == 304
    assert client.get(path, headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    head = client.head(path, headers={"Range": "bytes=10-19"})
    assert (head.status_code, head.headers["content-length"], head.content) == (206, "10", b"")


@pytest.mark.parametrize("ranges", ["bytes=1000-", "bytes=-0", "Bytes = 2000-3000 , 4000-", f"bytes={'9' * 90}-"])
def test_a_range_after_the_end_is_a_problem_with_the_size(client: httpx.Client, rendered: Path, ranges: str) -> None:
    path = f"{PATH}/annotated.mp4"
    answer = client.get(path, headers={"Range": ranges})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1000")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:motserve:problem:unsatisfiable-range"
    assert client.head(path, headers={"Range": ranges}).status_code == 416
    assert client.get(path, headers={"Range": ranges, "If-Range": '"another"'}).status_code == 200


@pytest.mark.parametrize(
    "ranges",
    ["", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=a-b", "bytes=5-2", "lines=1-2", "bytes=0-1;2-3",
     "bytes=0-1, x", "bytes=+1-2", "bytes=1_0-20", f"bytes={'9' * 5000}-"],
)  # fmt: skip
def test_an_invalid_range_is_ignored(client: httpx.Client, rendered: Path, ranges: str) -> None:
    answer = client.get(f"{PATH}/annotated.mp4", headers={"Range": ranges})
    assert (answer.status_code, len(answer.content)) == (200, 1000)


def test_of_several_ranges_those_that_the_file_has_are_sent(client: httpx.Client, rendered: Path) -> None:
    answer = client.get(f"{PATH}/annotated.mp4", headers={"Range": "bytes=10-19, 5000-6000,,"})
    assert (answer.status_code, answer.headers["content-range"]) == (206, "bytes 10-19/1000")
    answer = client.get(f"{PATH}/annotated.mp4", headers={"Range": "bytes=0-9,20-29,5000-"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert answer.text.count("Content-Range: bytes") == 2

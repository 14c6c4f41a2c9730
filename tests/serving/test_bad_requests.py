"""Some hundred bad requests: each gets a typed refusal, tells nothing of the server, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.testclient import TestClient
from service_checks import service_without_cluster, write_clip

from motserve.serving.api import Service, build_http

FORM = {"content-type": "multipart/form-data; boundary=x"}
JSON = {"content-type": "application/json"}


class Bad(NamedTuple):
    """A request and the statuses that may answer it."""

    method: str
    path: str
    statuses: set[int]
    headers: dict[str, str] = {}  # noqa: RUF012
    body: bytes = b""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that may read one folder, and has one finished video."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "roots").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield service_without_cluster(
            folder / "data",
            monkeypatch,
            serving={"allowed_roots": [str(folder / "roots")], "max_upload_bytes": 1 << 20},
        )


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service), raise_server_exceptions=False) as client:
        yield client


# --- the requests -----------------------------------------------------------------------------------------------------

ODD_NAMES = (
    "none", "0", "-1", "%00", "%2e%2e", "..%2f..%2fjobs.sqlite", "%ff%fe", "a%0d%0aX-Evil: 1", "%F0%9F%98%80",
    "' OR 1=1--", "a" * 300, "a" * 10_000, "*", "null", "%25%32%65", "CON", "a;b", "{video_id}", "<script>",
    "%e2%80%ae",
)  # fmt: skip
ODD_NUMBERS = (
    "x", "-1", "0", "1.5", "1e9", "nan", "inf", "0x10", "9" * 30, "9" * 5000, "", "%00", "true", "[]", "1,2", "%2b",
    "--1",
)  # fmt: skip
ODD_URLS = (
    "", " ", "a.mp4", "/etc/passwd", "file:", "file:/", "file://", "file:///", "file:///etc/passwd",
    "FILE:///etc/passwd", "file://localhost/etc/passwd", "file://127.0.0.1/etc/passwd", "file:///proc/self/environ",
    "file:///dev/zero", "file:///dev/stdin", "file:///%00", "file:///%2e%2e/%2e%2e/etc/passwd", "file://[",
    "http://[::1", "http://[::1]/a", "http://\u2100.example/a.mp4", "http://example/a.mp4",
    "https://user:secret@example/a.mp4", "ftp://example/a.mp4", "rtsp://camera/live", "concat:/etc/passwd|/etc/group",
    "subfile,,start,0,end,9,,:/etc/passwd", "pipe:0", "data:,a", "javascript:alert(1)", "file:///" + "a" * 300,
    "file:///" + "a/" * 4000, "file:///a?x", "file:///a#x", "file:///\ud800", "file:///a\u0000b", "\u0000",
    "file:////server/share", "file:///C:/a.mp4", "~/a.mp4", "file:///~root",
)  # fmt: skip
ODD_JSON = (
    b"", b"{", b"[]", b"null", b"1", b'"file:///a"', b"{}", b'{"url": null}', b'{"url": 1}', b'{"url": []}',
    b'{"url": {}}', b'{"url": "a", "url": 1}', b'{"uri": "file:///a"}', b'{"url": "file:///a", "more": 1}',
    b"\xff\xfe", b"[" * 50_000, b'{"a":' * 5000, b"NaN", b'{"url": NaN}', b"1" * 60_000,
    b'{"url": "' + b"a" * 70_000 + b'"}', b'{"url": "\\ud800"}', b"\x00", b"{'url': 'file:///a'}",
    b'{"url": "file:///a"} {}',
)  # fmt: skip
ODD_TYPES = (
    "", "x", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=x", "multipart/form-data",
    "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 300,
    "multipart/form-data; boundary=\t", 'multipart/form-data; boundary="', "multipart/form-data; charset=utf-8",
    "application/json; charset=utf-16", "video/mp4", "application/octet-stream", "image/png", "application/xml",
    "a/b/c", ";", "multipart/form-data boundary=x", "*/*",
)  # fmt: skip
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
END = b"\r\n--x--\r\n"
ODD_FORMS = (
    b"", b"--x", b"--x--", b"--x--\r\n", b"--x\r\n\r\n--x--\r\n", FILE, FILE + END, FILE + b"x",
    FILE + b"x\r\n--y--\r\n", FILE + b"x" + END, FILE + bytes(5000) + END, b"garbage" * 100, b"--x\r\n" * 2000,
    b"--x\r\nContent-Disposition\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nx' + END,
    FILE * 2 + b"x" + END, b'--x\r\nContent-Disposition: form-data; filename="\xff"\r\n\r\n' + b"x" + END,
    b'--x\r\nContent-Disposition: attachment; filename="a"\r\n\r\nx' + END,
    b'--x\r\nContent-Disposition: form-data; filename="a"; filename="b"\r\n\r\nx' + END,
    b'--x\r\nContent-Disposition: form-data; filename=""\r\n\r\n' + END,
    b"--x\r\n" + b"A: " + b"a" * 70_000 + b"\r\n\r\nx" + END, b"--x\r\n" + b"A: b\r\n" * 3000 + b"\r\nx" + END,
    b'--x\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; filename="a"\r\n\r\n!' + END,
    b'--x\nContent-Disposition: form-data; filename="a"\n\nx\n--x--\n', b"\r\n" * 1000 + FILE, b"\x00" * 100,
    FILE + b"#EXTM3U\nfile:///etc/passwd\n" + END, FILE + b"ffconcat version 1.0\nfile /etc/passwd\n" + END,
    FILE + b"<svg/>" + END, FILE + b"\x89PNG\r\n\x1a\n" + END, FILE + b"RIFF\xff\xff\xff\xffAVI LIST" + END,
    FILE + b"\x1aE\xdf\xa3" + b"\xff" * 100 + END, FILE + b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 100 + END,
    FILE + b"%PDF-1.4" + END, FILE + b"PK\x03\x04" + END, FILE + bytes(range(256)) * 40 + END,
)  # fmt: skip
ODD_LENGTHS = ("-1", "x", "1.5", "9" * 15, "9" * 30, "0x10", "1e3", "+5")

VIDEO_ROUTES = (("GET", ""), ("DELETE", ""), ("GET", "/tracks"), ("GET", "/annotated.mp4"), ("POST", "/retry"))
SEARCH = {400, 404, 409, 413, 415, 422}
ROUTES = (
    "/v1/videos", "/v1/videos/none", "/v1/videos/none/tracks", "/v1/identities/search", "/v1/admin/reload",
    "/healthz",
)  # fmt: skip


def requests() -> Iterator[Bad]:
    """All requests; most are refused for one reason, some for one of several that a client cannot tell apart."""
    for name in ODD_NAMES:
        for method, below in VIDEO_ROUTES:
            yield Bad(method, f"/v1/videos/{name}{below}", {404, 405})
        yield Bad("GET", f"/v1/identities/{name}", {404, 405, 409, 422})
        yield Bad("GET", f"/v1/{name}", {404})
    for number in ODD_NUMBERS:
        if number != "9" * 30:
            yield Bad("GET", f"/v1/videos?limit={number}", {422})
        yield Bad("GET", f"/v1/videos/none/tracks?format={number}", {422})
        yield Bad("POST", f"/v1/videos?wait={number or 'x'}z", {422})
        yield Bad("GET", f"/v1/identities/{number}/thumbnail.jpg", {404, 409, 422})
    for url in ODD_URLS:
        yield Bad("POST", "/v1/videos", {400, 403, 404}, JSON, json.dumps({"url": url}).encode())
        yield Bad("POST", "/v1/identities/search", SEARCH, JSON, json.dumps({"url": url}).encode())
    for body in ODD_JSON:
        yield Bad("POST", "/v1/videos", {400, 403, 404, 413}, JSON, body)
        yield Bad("POST", "/v1/identities/search", SEARCH, JSON, body)
    for kind in ODD_TYPES:
        for path in ("/v1/videos", "/v1/identities/search"):
            yield Bad("POST", path, {400, 415}, {"content-type": kind}, b"x")
    for body in ODD_FORMS:
        yield Bad("POST", "/v1/videos", {400, 422}, FORM, body)
        yield Bad("POST", "/v1/identities/search", {400, 422}, FORM, body)
    for length in ODD_LENGTHS:
        yield Bad("POST", "/v1/videos", {400, 413}, {**FORM, "content-length": length}, b"x")
    for path in ROUTES:
        for method in ("PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT", "BREW"):
            yield Bad(method, path, {405})


REQUESTS = tuple(requests())


# --- the answers ------------------------------------------------------------------------------------------------------


def send(client: httpx.Client, bad: Bad) -> httpx.Response:
    request = client.build_request(bad.method, bad.path, content=iter([bad.body]), headers=bad.headers)
    return client.send(request)


def fault_of(answer: httpx.Response, bad: Bad, secrets: tuple[str, ...]) -> str:
    """Return what is wrong with an answer."""
    if answer.status_code not in bad.statuses:
        return f"status {answer.status_code}: {answer.text[:200]}"
    if answer.headers["content-type"] != "application/problem+json":
        return f"content type {answer.headers['content-type']}"
    problem: dict[str, Any] = answer.json()
    if problem["status"] != answer.status_code or not problem["title"] or not problem["detail"]:
        return f"problem {problem}"
    if told := [secret for secret in secrets if secret in answer.text]:
        return f"it tells {told}"
    if len(answer.headers.get_list("x-request-id")) != 1:
        return "not one X-Request-ID"
    if answer.status_code == 405 and not answer.headers.get("allow"):
        return "no Allow"
    return ""


def test_each_bad_request_gets_a_typed_refusal_and_nothing_is_left(client: httpx.Client, service: Service) -> None:
    assert len(REQUESTS) > 400
    storage = service.config.serving.storage_dir
    before = sorted(storage.rglob("*"))
    secrets = (str(storage.parent), "Traceback", "root:", "secret")
    faults = [
        f"{bad.method} {bad.path[:80]} {bad.headers} {bad.body[:60]!r}: {fault}"
        for bad in REQUESTS
        if (fault := fault_of(send(client, bad), bad, secrets))
    ]
    assert not faults, "\n".join([f"{len(faults)} of {len(REQUESTS)}", *faults])
    assert sorted({*storage.rglob("*"), storage / "videos"}) == sorted({*before, storage / "videos"})
    assert not service.jobs.page(10)


ODD_HEADERS = (
    {"range": "bytes=" + "0-1," * 2000}, {"range": "bytes=-99999999999999999999"}, {"range": "lines=1-2"},
    {"if-none-match": '"' * 100}, {"if-none-match": "\xff"}, {"if-modified-since": "yesterday"},
    {"if-modified-since": "Mon, 99 Foo 99999 00:00:00 GMT"}, {"accept": "*" * 5000},
    {"accept-encoding": "gzip;q=nan"}, {"x-request-id": "a" * 5000}, {"x-request-id": "a\tb"},
    {"x-request-id": "\xe9"}, {"traceparent": "x"}, {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
    {"traceparent": "ff-" + "f" * 32 + "-" + "f" * 16 + "-ff"}, {"authorization": "Basic !!!"},
    {"authorization": "Bearer " + "a" * 5000}, {"host": "evil"}, {"host": ""}, {"cookie": "a=b;" * 1000},
    {"x-forwarded-for": "x" * 1000}, {"content-type": "\xff"}, {"expect": "200-ok"},
    {"transfer-encoding": "identity"}, {"accept-language": "\xff\xfe"}, {"user-agent": ""}, {"forwarded": "for=\x7f"},
)  # fmt: skip


def test_headers_of_any_kind_do_not_disturb_an_answer(client: httpx.Client) -> None:
    for odd in ODD_HEADERS:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in odd.items()]
        for path, statuses in (("/healthz", {200}), ("/v1/videos", {200}), ("/v1/videos/none", {404})):
            answer = client.get(path, headers=raw)
            assert answer.status_code in statuses, f"{odd}: {answer.text}"
            (request_id,) = answer.headers.get_list("x-request-id")
            assert request_id.isprintable()
            assert len(request_id) < 200


def test_a_good_video_is_accepted_after_all_that(client: httpx.Client, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 0.2)
    answer = client.post("/v1/videos", content=FILE + clip.read_bytes() + END, headers=FORM)
    assert answer.status_code == 202, answer.text

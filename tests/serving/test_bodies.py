"""Bodies that are slow, endless or too many, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from service_checks import service_without_cluster

from motserve.config.serving import UploadsConfig
from motserve.errors import Overloaded, TooLarge, TooSlow
from motserve.serving.api.bodies import UploadSlots, arriving, capped, read_json
from motserve.serving.api.deployment import build_http


def request_of(*parts: bytes | float, endless: bool = False, host: str | None = None) -> Request:
    """Return a request whose body arrives in parts; a number is a pause in seconds."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))  # type: ignore[arg-type]
        if not left:
            if endless:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    client = None if host is None else (host, 50_000)
    return Request({"type": "http", "headers": [], "client": client}, receive)


async def whole(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


QUICK = UploadsConfig(idle_s=0.05, min_bytes_per_s=0)


def read_form(request: Request) -> Coroutine[None, None, bytes]:
    return whole(capped(request, QUICK, 1000, "the limit"))


def read_body(request: Request) -> Coroutine[None, None, bytes]:
    return read_json(request, QUICK)


@pytest.mark.parametrize("read", [read_form, read_body])
def test_a_body_without_end_is_given_up(read: Callable[[Request], Coroutine[None, None, bytes]]) -> None:
    with pytest.raises(TooSlow, match=r"no part of the body arrived for 0\.05 s \(serving\.uploads\.idle_s\)"):
        asyncio.run(asyncio.wait_for(read(request_of(b"{", endless=True)), 30))


def test_a_trickling_body_is_given_up_and_a_steady_one_is_not() -> None:
    limits = UploadsConfig(idle_s=10, min_bytes_per_s=100)

    def received(sizes: list[int]) -> bytes:
        now = [0.0]
        parts = iter([b"x" * size for size in sizes])

        async def receive() -> dict[str, Any]:
            now[0] += 5.0
            part = next(parts, None)
            return {"type": "http.request", "body": part or b"", "more_body": part is not None}

        request = Request({"type": "http", "headers": []}, receive)
        return asyncio.run(whole(arriving(request, limits, lambda: now[0])))

    assert received([1, 1, 499, 500, 500]) == b"x" * 1501
    with pytest.raises(TooSlow, match=r"less than 100 bytes/s \(serving\.uploads\.min_bytes_per_s\)"):
        received([1, 1, 499, 1, 500])


def test_a_large_body_is_cut_off_as_before() -> None:
    with pytest.raises(TooLarge):
        asyncio.run(read_json(request_of(b"x" * 70_000), QUICK))
    assert asyncio.run(read_json(request_of(b"{", 0.01, b"}"), QUICK)) == b"{}"


def test_bodies_beyond_the_limit_are_refused_until_one_is_done() -> None:
    slots = UploadSlots(UploadsConfig(max_concurrent=2), 7)
    with slots.slot(request_of()):
        with slots.slot(request_of()), pytest.raises(Overloaded, match="2 uploads are under way") as refused:
            slots.slot(request_of()).__enter__()
        assert refused.value.retry_after_s == 7
        with slots.slot(request_of()):
            pass


@pytest.mark.parametrize(
    ("host", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ("testclient", "testclient", None),
    ],
)
def test_one_client_cannot_take_all_slots(host: str, same: str, other: str | None) -> None:
    slots = UploadSlots(UploadsConfig(max_concurrent=3, max_per_client=2), 7)
    with slots.slot(request_of(host=host)):
        with slots.slot(request_of(host=same)):
            for one in (host, same):
                with pytest.raises(
                    Overloaded, match=r"2 uploads from .*\(serving\.uploads\.max_per_client\)"
                ) as refused:
                    slots.slot(request_of(host=one)).__enter__()
                assert refused.value.retry_after_s == 7
            with slots.slot(request_of(host=other)), pytest.raises(Overloaded, match="max_concurrent"):
                slots.slot(request_of(host="203.0.113.1")).__enter__()
        with slots.slot(request_of(host=same)), slots.slot(request_of(host=other)):
            pass


def test_a_service_full_of_uploads_answers_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_without_cluster(tmp_path, monkeypatch, serving={"uploads": {"max_concurrent": 1}})
    with TestClient(build_http(service)) as client, service.uploads.slot(request_of()):
        for path, name in (("/v1/videos", "a.mp4"), ("/v1/identities/search", "a.png")):
            answer = client.post(path, files={"file": (name, b"x")})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "serving.uploads.max_concurrent" in answer.json()["detail"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/videos").json()["videos"] == []
    assert not list((tmp_path / "videos").glob("*"))

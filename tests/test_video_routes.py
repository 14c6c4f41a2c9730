"""The routes of videos over real stores, without a cluster: sessions are started in name only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from ray.exceptions import RayTaskError
from service_checks import write_clip

from motserve.config import load_config
from motserve.errors import MotserveError, NotFound, Overloaded
from motserve.serving.ingress import Service, build_http


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 0.2)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    nobody: Any = None
    service = Service(load_config([{"serving": {"storage_dir": str(tmp_path)}}]), "d", nobody, nobody, nobody)
    monkeypatch.setattr(service.sessions, "_launch", lambda *_: None)
    monkeypatch.setattr(service.sessions, "find", lambda *_: None)
    return service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with TestClient(build_http(service), raise_server_exceptions=False) as client:
        yield client


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("there is no video"), 404), (Overloaded("all are in work", 7), 503)]
)
def test_an_error_of_another_process_gets_the_status_of_its_cause(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: MotserveError, status: int
) -> None:
    failed = RayTaskError("draw", "Traceback (most recent call last):\n  File …", error).as_instanceof_cause()
    assert isinstance(failed, MotserveError)
    monkeypatch.setattr(service.jobs, "get", raising(failed))
    answer = client.get("/v1/videos/a")
    assert (answer.status_code, answer.json()["detail"]) == (status, str(error))
    assert answer.json()["title"] == {404: "Not found", 503: "Overloaded"}[status]
    assert answer.headers.get("retry-after") == {404: None, 503: "7"}[status]

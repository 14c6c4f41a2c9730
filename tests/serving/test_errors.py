"""Statuses, exit codes and observers: what derived errors and failing helpers do."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import motserve
from motserve.cli.exit_codes import UNEXPECTED, exit_code_of
from motserve.config import load_config
from motserve.errors import InvalidVideo, MotserveError, NotFound
from motserve.serving.api import problems
from motserve.serving.inference.backends import ModelInfo
from motserve.serving.inference.batching import GreedyBatcher, Pass
from motserve.serving.inference.replica_observer import ReplicaObserver
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.session.detector_switch import DetectorSwitch


class MissingFrame(InvalidVideo):
    """A kind of error that no table names."""


class Unknown(MotserveError):
    """An error that is of no kind with a status."""


@pytest.mark.parametrize(
    ("error", "status", "code"), [(MissingFrame("a"), 422, 3), (NotFound("b"), 404, 3), (Unknown("c"), 500, UNEXPECTED)]
)
def test_a_derived_error_has_status_and_exit_code_of_its_kind(error: MotserveError, status: int, code: int) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    with TestClient(app) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.json()["detail"]) == (status, str(error))
    assert exit_code_of(error) == code


def test_a_batch_is_answered_although_it_cannot_be_recorded(caplog: pytest.LogCaptureFixture) -> None:
    def record(_: Pass) -> None:
        raise RuntimeError("the metrics are full")

    def double(items: list[int]) -> list[int]:
        return [2 * item for item in items]

    async def run() -> list[int]:
        return await GreedyBatcher(double, 4, record).submit([1, 2, 3])

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(asyncio.wait_for(run(), 30)) == [2, 4, 6]
    (logged,) = caplog.records
    assert "could not be recorded" in logged.getMessage()


def test_the_switches_of_a_video_change_only_in_their_owner() -> None:
    nothing: Any = SimpleNamespace()
    switch = DetectorSwitch(nothing, ("a",), ModelInfo({"name": "a"}), nothing, False, "v")
    switch.resume(8, [{"frame": 3, "detector": {"name": "b"}}])
    stored = switch.switches
    stored[0]["frame"] = 4
    stored.clear()
    assert switch.switches == [{"frame": 3, "detector": {"name": "b"}}]


def test_the_current_request_is_not_read_from_log_fields() -> None:
    from motserve.config.logs import log_fields

    with RequestContext("r", "v").logged(), log_fields(request_id="other", video_id="other"):
        current = RequestContext.current({"traceparent": "00-1"})
        assert (current.request_id, current.video_id, current.trace) == ("r", "v", {"traceparent": "00-1"})
        assert RequestContext.current({}, "mine").video_id == "mine"
    assert RequestContext.current({}) == RequestContext()


def test_each_replica_loads_a_model_that_was_activated() -> None:
    """The reload has one of them load it; the first request must not wait for the others."""
    prepared: list[tuple[str, ...]] = []
    active: Any = SimpleNamespace(current=lambda _: ("models:/people/2",))

    async def prepare(names: tuple[str, ...]) -> ModelInfo:
        prepared.append(names)
        return ModelInfo({"name": names[0], "sha256": "a"})

    async def run() -> None:
        config = load_config([{"serving": {"metrics": {"refresh_s": 0.5}}}])
        observer = ReplicaObserver("detector", config, config.serving.detector)
        observer.start_gauges(active, prepare)

        async def wait() -> None:
            while not prepared:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), 30)

    asyncio.run(run())
    assert set(prepared) == {("models:/people/2",)}


def test_one_module_uses_what_ray_keeps_private() -> None:
    """Releases of Ray change it without notice; `motserve/serving/session/nodes.py` is the place to look."""
    root = Path(motserve.__file__).parent
    users = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if "ray._private" in path.read_text()]
    assert users == ["serving/session/nodes.py"]

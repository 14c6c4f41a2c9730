"""Traces and request IDs in one process: log fields, headers, and which span is the parent of which."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_collector import Collector

from motserve.config import LoggingConfig, TracingConfig, load_config
from motserve.config.logs import log_fields, setup_logging
from motserve.errors import InvalidConfig
from motserve.pipeline.loop import track_frames
from motserve.pipeline.observer import PipelineStats
from motserve.serving.api.deployment import build_http
from motserve.serving.api.service import Service
from motserve.serving.app import compose
from motserve.serving.inference.backends import Backends
from motserve.serving.inference.batching import GreedyBatcher, Pass
from motserve.serving.observability.metrics_collector import Report
from motserve.serving.observability.progress import Progress
from motserve.serving.observability.request_context import RequestContext, request_id_of
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.observability.tracing import Tracing
from motserve.types import Detections, Frame

ALL = TracingConfig(sample_ratio=1.0)
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


class Recorded:
    """A `Tracing` whose spans the test can read."""

    def __init__(self, config: TracingConfig = ALL) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(config, "test", self.exporter)

    def spans(self) -> list[ReadableSpan]:
        self.tracing.flush()
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    span_id: int = span.context.span_id
    return span_id


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    setup_logging(LoggingConfig(), stream)
    return stream


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# ---- fields of the log


def test_log_lines_name_request_and_video_of_their_context(lines: io.StringIO) -> None:
    logger = logging.getLogger("motserve.test")

    async def work(name: str) -> None:
        with RequestContext(f"r{name}", f"v{name}").logged():
            await asyncio.sleep(0)
            await asyncio.create_task(asyncio.to_thread(logger.info, name))  # tasks and threads belong to it

    async def run() -> None:
        await asyncio.gather(work("1"), work("2"))
        logger.info("outside")

    asyncio.run(run())
    found = {record["message"]: (record.get("request_id"), record.get("video_id")) for record in records(lines)}
    assert found == {"1": ("r1", "v1"), "2": ("r2", "v2"), "outside": (None, None)}


def test_fields_of_a_log_line_win_over_the_context_and_empty_ones_are_left_out(lines: io.StringIO) -> None:
    with log_fields(video_id="outer", request_id=""):
        logging.getLogger("motserve.test").info("x", extra={"video_id": "own"})
    (record,) = records(lines)
    assert record["video_id"] == "own"
    assert "request_id" not in record


def test_a_model_that_fails_names_the_request_that_it_failed_for(lines: io.StringIO) -> None:
    def model(items: list[int]) -> list[int]:
        if -1 in items:
            raise ValueError("cannot see")
        return items

    async def ask(batcher: GreedyBatcher[int, int], name: str, item: int) -> Any:
        with RequestContext(f"r{name}", f"v{name}").logged():
            return await batcher.submit([item])

    async def run() -> list[Any]:
        batcher = GreedyBatcher(model, 8, lambda _: None)
        asked = (ask(batcher, "1", 1), ask(batcher, "2", -1), ask(batcher, "3", 3))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    good, bad, other = asyncio.run(asyncio.wait_for(run(), 60))
    assert (good, other) == ([1], [3])
    assert isinstance(bad, ValueError)
    (record,) = records(lines)
    assert (record["request_id"], record["video_id"], record["level"]) == ("r2", "v2", "ERROR")
    assert "cannot see" in record["message"]


@pytest.mark.parametrize("given", ["a", "0af7-65:19/16+c=d@x_.", "x" * 128])
def test_a_valid_request_id_is_kept(given: str) -> None:
    assert request_id_of(given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", 'a"b', "a\tb", "ä", "a\n"])
def test_an_invalid_request_id_is_replaced(given: str | None) -> None:
    made = request_id_of(given)
    assert made != given
    assert request_id_of(made) == made


# ---- requests


class Nothing:
    """A handle that is never called."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was requested")


def service_in(folder: Path, tracing: Tracing) -> Service:
    nothing: Any = Nothing()
    service = Service(
        load_config([{"serving": {"storage_dir": str(folder)}}]), "d", Backends(nothing, nothing, nothing)
    )
    service.tracing = tracing
    return service


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def client(tmp_path: Path, recorded: Recorded) -> TestClient:
    return TestClient(build_http(service_in(tmp_path, recorded.tracing)), raise_server_exceptions=False)


def test_every_response_has_a_request_id(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = [client.get(path).headers["x-request-id"] for path in ("/healthz", "/v1/videos/none", "/nowhere")]
    assert len(set(made)) == 3
    assert client.get("/healthz", headers={"X-Request-ID": "not valid"}).headers["x-request-id"] != "not valid"


def test_behind_a_proxy_that_adds_the_request_id_the_service_does_not_add_it_again(tmp_path: Path) -> None:
    proxied = TestClient(build_http(service_in(tmp_path, Tracing(TracingConfig(), "test")), proxied=True))
    assert "x-request-id" not in proxied.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers
    assert "x-request-id" in proxied.get("/healthz", headers={"X-Request-ID": "not valid"}).headers


def test_an_unexpected_error_names_its_request(client: TestClient, lines: io.StringIO) -> None:
    answer = client.get("/readyz", headers={"X-Request-ID": "mine-2"})  # the handles are broken
    assert answer.status_code == 503
    client.app.state.service.jobs = None  # type: ignore[attr-defined]
    answer = client.get("/v1/videos/x", headers={"X-Request-ID": "mine-3"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine-3")
    assert [(r["message"], r["request_id"]) for r in records(lines) if r["level"] == "ERROR"][-1] == (
        "unexpected error",
        "mine-3",
    )


def test_a_request_is_a_span_of_the_trace_that_the_client_began(client: TestClient, recorded: Recorded) -> None:
    client.get("/v1/videos/none", headers={"traceparent": CLIENT + "01", "X-Request-ID": "mine"})
    (span,) = recorded.spans()
    assert span.name == "GET /v1/videos/{video_id}"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 404
    assert span.attributes["request_id"] == "mine"
    assert span.context is not None
    assert span.context.trace_id == int("0af7651916cd43dd8448eb211c80319c", 16)
    assert parent_of(span) == int("b7ad6b7169203331", 16)


def test_a_request_is_sampled_as_its_client_decided_or_by_the_ratio(tmp_path: Path) -> None:
    none, everything = Recorded(TracingConfig(sample_ratio=0.0)), Recorded()
    for recorded, headers, num_spans in (
        (none, {}, 0),
        (none, {"traceparent": CLIENT + "01"}, 1),
        (everything, {}, 1),
        (everything, {"traceparent": CLIENT + "00"}, 0),
    ):
        recorded.exporter.clear()
        TestClient(build_http(service_in(tmp_path, recorded.tracing))).get("/healthz", headers=headers)
        assert len(recorded.spans()) == num_spans


# ---- from the session to the batch


def frames(count: int) -> list[Frame]:
    return [Frame(index, index / 25, np.zeros((80, 80, 3), np.uint8)) for index in range(count)]


def test_spans_of_a_video_are_a_tree_down_to_the_runs_of_the_model() -> None:
    """Session and replica are two processes; only the `RequestContext` goes from one to the other."""
    session, replica = Recorded(), Recorded()
    batcher: GreedyBatcher[Any, Detections] = GreedyBatcher(
        lambda images: [_one() for _ in images], 16, lambda done: replica.tracing.record_pass("model", done)
    )

    async def detect(images: list[Any]) -> list[Detections]:
        context = RequestContext.current(session.tracing.headers(), "v")
        return await asyncio.create_task(_in_a_replica(replica.tracing, batcher, images, context))

    async def embed(crops: Any) -> Any:
        return np.eye(1, 8, dtype=np.float32).repeat(len(crops), axis=0)

    async def send(report: Report) -> None:
        pass

    async def run() -> None:
        telemetry = Telemetry("v", Progress(), send, None, session.tracing)
        config = load_config(
            [{"pipeline": {"first_chunk_size": 4, "chunk_size": 4, "window": 2}, "reid": {"policy": "always"}}]
        )
        with session.tracing.span("session"):
            tracked = track_frames(
                iter(frames(10)), detect, embed, config, PipelineStats(), 25.0, (80, 80), observer=telemetry
            )
            async for _ in tracked:
                with telemetry.write():
                    pass

    asyncio.run(asyncio.wait_for(run(), 60))
    (root,) = session.named("session")
    chunks = {id_of(span) for span in session.named("chunk") if (span.attributes or {})["frames"]}
    assert len(chunks) == 3
    assert {parent_of(span) for span in session.named("chunk")} == {id_of(root)}
    assert {parent_of(span) for span in session.named("write")} == {id_of(root)}
    detects = session.named("detect")
    assert {parent_of(span) for span in detects} == chunks
    assert {parent_of(span) for span in session.named("embed")} == chunks
    assert chunks <= {parent_of(span) for span in session.named("decode")}
    requests = replica.named("detector")
    assert {parent_of(span) for span in requests} == {id_of(span) for span in detects}
    assert {(span.attributes or {})["video_id"] for span in requests} == {"v"}
    ids = {id_of(span) for span in requests}
    assert {parent_of(span) for span in replica.named("queue")} == ids
    assert {parent_of(span) for span in replica.named("model")} <= ids
    assert {span.context.trace_id for span in session.spans() + replica.spans() if span.context} == {
        root.context.trace_id if root.context else 0
    }


async def _in_a_replica(tracing: Tracing, batcher: Any, images: list[Any], context: RequestContext) -> Any:
    with context.logged(), tracing.span("detector", "server", context.trace, context.span_attributes):
        return await batcher.submit(images)


def _one() -> Detections:
    return Detections(np.array([[10, 10, 30, 70]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64))


def test_a_run_and_the_requests_in_its_batch_link_to_each_other() -> None:
    recorded = Recorded()
    runs: list[Pass] = []

    def observe(done: Pass) -> None:
        runs.append(done)
        recorded.tracing.record_pass("model", done)

    async def ask(batcher: GreedyBatcher[int, int], name: str) -> None:
        with recorded.tracing.span(name):
            await batcher.submit([1, 2])

    async def run() -> None:
        batcher = GreedyBatcher[int, int](lambda items: items, 8, observe)
        await asyncio.gather(*(ask(batcher, name) for name in ("a", "b", "c")))

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [done.items for done in runs] == [6]
    (done,) = recorded.named("model")
    requests = [recorded.named(name)[0] for name in ("a", "b", "c")]
    assert [link.context.span_id for link in done.links] == [id_of(span) for span in requests]
    assert parent_of(done) == id_of(requests[0])
    assert (done.attributes or {})["requests"] == 3
    for span in requests[1:]:
        assert [link.context.span_id for link in span.links] == [id_of(done)]
    assert {parent_of(span) for span in recorded.named("queue")} == {id_of(span) for span in requests}


def test_without_an_endpoint_there_are_no_spans() -> None:
    tracing = Tracing(TracingConfig(), "test")
    with tracing.span("a"), tracing.child_of(tracing.start_child("b"), "c"):
        assert tracing.headers() == {}
    tracing.flush()


def test_spans_arrive_at_a_collector() -> None:
    with Collector() as collector:
        tracing = Tracing(TracingConfig(endpoint=collector.endpoint, sample_ratio=1.0), "motserve-test")
        with tracing.span("outer"), tracing.span("inner", attributes={"video_id": "v"}):
            pass
        tracing.flush()
    (service, inner), (_, outer) = collector.spans
    assert (service, inner.name, outer.name) == ("motserve-test", "inner", "outer")
    assert (inner.parent_span_id, inner.trace_id) == (outer.span_id, outer.trace_id)
    assert [(a.key, a.value.string_value) for a in inner.attributes] == [("video_id", "v")]


def test_an_endpoint_without_the_library_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("motserve.models.extras.importlib.import_module", missing)
    serving = {"storage_dir": str(tmp_path), "accelerator": "cpu", "tracing": {"endpoint": "http://127.0.0.1:4318"}}
    with pytest.raises(InvalidConfig, match=r"serving.tracing.endpoint needs .*'motserve\[tracing\]'"):
        compose(load_config([{"serving": serving}]))


def test_an_endpoint_is_a_url() -> None:
    with pytest.raises(InvalidConfig, match="is not an http"):
        load_config([{"serving": {"tracing": {"endpoint": "collector:4318"}}}])

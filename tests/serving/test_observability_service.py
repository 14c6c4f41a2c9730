"""The real service with an OTLP collector: the metrics, logs and spans that it produces while it tracks videos."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from dashboards import asked_for
from otlp_collector import Collector
from ray import serve
from service_checks import eventually, free_port, session_of, write_clip

from motserve.config import Config
from motserve.serving.app import build
from motserve.serving.arguments import ServeArgs
from motserve.serving.stores import JobStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FRAMES = 75
MAX_WAIT_S = 900
"""Longest time that a video may take; the machine may be busy."""

ONLY_WITH_A_GPU = {"ray_motserve_gpu_memory_used_bytes", "ray_motserve_gpu_memory_total_bytes"}

Series = tuple[str, dict[str, str], float]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 3)


@pytest.fixture(scope="module")
def logs() -> Iterator[Path]:
    """A cluster of Ray that exports metrics every second; the value is the folder of its logs."""
    context: Any = ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    yield Path(context.address_info["session_dir"]) / "logs"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def client(storage: Path, collector: Collector, logs: Path) -> Iterator[httpx.Client]:
    """A client of the running service."""
    port = free_port()
    settings = {
        "detector": {"weights": "bundled", "image_size": 320},
        "reid": {"weights": "bundled", "refresh_interval_s": 0.2},
        "serving": {
            "storage_dir": str(storage),
            "metrics": {"refresh_s": 1.0},
            "session": {"restarts": 0, "lease_s": 5},
            "tracing": {"endpoint": collector.endpoint, "sample_ratio": 0.0},
        },
    }
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(ServeArgs(settings=settings)), name="motserve", route_prefix="/")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        yield client


def post(client: httpx.Client, clip: Path, **headers: str) -> httpx.Response:
    answer = client.post("/v1/videos", files={"file": (clip.name, clip.read_bytes())}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer


def finished(client: httpx.Client, video_id: str) -> str:
    def status() -> Any:
        state = client.get(f"/v1/videos/{video_id}").json()
        return state["status"] if state["status"] in ("done", "failed") else None

    found: str = eventually(status, f"the end of video {video_id}", MAX_WAIT_S)
    return found


def exported() -> list[Series]:
    """Return the series that Prometheus would scrape now."""
    (node,) = ray.nodes()
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=30).text
    lines = re.findall(r"^(ray_\w+)(?:{(.*)})? (\S+)$", text, re.MULTILINE)
    return [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(number)) for name, labels, number in lines]


def value(name: str, **labels: str) -> float:
    """Sum over all series of a metric with these labels; 0 where there is none."""
    return sum(number for key, has, number in exported() if key == name and set(labels.items()) <= set(has.items()))


def ids_of_videos() -> set[str]:
    return {labels["video_id"] for name, labels, _ in exported() if name == "ray_motserve_video_frames_tracked"}


def becomes(expected: float, of: Callable[[], float], what: str) -> None:
    eventually(lambda: of() == expected, f"{what} of {expected} (now {of()})", MAX_WAIT_S)


def chunks_of(frames: int) -> int:
    """Return the number of chunks of a video; they grow."""
    limits = Config().pipeline
    size, chunks = limits.first_chunk_size, 0
    while frames > 0:
        frames -= size
        size, chunks = min(2 * size, limits.chunk_size), chunks + 1
    return chunks


def test_no_count_of_a_short_video_is_lost(client: httpx.Client, clip: Path) -> None:
    ids = [post(client, clip).json()["id"] for _ in range(2)]
    assert {finished(client, video_id) for video_id in ids} == {"done"}
    states = [client.get(f"/v1/videos/{video_id}").json() for video_id in ids]
    becomes(2, lambda: value("ray_motserve_videos_total", status="done"), "videos")
    becomes(2 * FRAMES, lambda: value("ray_motserve_frames_decoded_total"), "decoded frames")
    becomes(2 * FRAMES, lambda: value("ray_motserve_frames_tracked_total"), "tracked frames")
    becomes(2 * FRAMES, lambda: value("ray_motserve_model_items_total", role="detector"), "detected frames")
    chunks = 2 * chunks_of(FRAMES)
    for stage in ("decode", "detect", "track"):
        becomes(chunks, lambda s=stage: value("ray_motserve_stage_seconds_count", stage=s), stage)  # type: ignore[misc]
    embedded = sum(state["embeddings"] for state in states)
    assert embedded > 0
    becomes(embedded, lambda: value("ray_motserve_embeddings_total"), "embeddings")
    becomes(embedded, lambda: value("ray_motserve_model_items_total", role="reid"), "embedded crops")
    assert value("ray_motserve_embeddings_skipped_total") > 0
    assert round(value("ray_motserve_frames_dropped_total")) == 0


def test_all_metrics_that_dashboards_and_alerts_query_are_exported(client: httpx.Client, clip: Path) -> None:
    queried = asked_for() - ONLY_WITH_A_GPU
    per_video = {name for name in queried if name.startswith("ray_motserve_video_")}
    exported_names: set[str] = set()

    def missing() -> set[str]:
        exported_names.update(name for name, _, _ in exported())
        return queried - exported_names

    video_id = post(client, clip).json()["id"]
    eventually(lambda: video_id in ids_of_videos(), "gauges of the running video", MAX_WAIT_S)
    eventually(lambda: not missing() & per_video, "every gauge of a video", MAX_WAIT_S)
    finished(client, video_id)
    assert client.get("/v1/videos/none").status_code == 404
    eventually(lambda: not missing(), "every metric", 60)
    eventually(lambda: video_id not in ids_of_videos(), "the end of the video's gauges", 60)


def test_a_deleted_video_and_one_whose_session_is_lost_are_counted(
    client: httpx.Client, clip: Path, storage: Path
) -> None:
    def running() -> str:
        video_id: str = post(client, clip).json()["id"]
        state = f"/v1/videos/{video_id}"
        eventually(lambda: client.get(state).json()["status"] == "running", "the start", MAX_WAIT_S)
        return video_id

    client.delete(f"/v1/videos/{running()}")
    lost = running()
    ray.kill(session_of(JobStore(storage).get(lost)))
    becomes(1, lambda: value("ray_motserve_videos_total", status="deleted"), "deleted videos")

    def is_lost() -> float:
        client.get(f"/v1/videos/{lost}")  # a request of the state detects the loss
        return value("ray_motserve_videos_total", status="lost")

    becomes(1, is_lost, "lost videos")


def test_a_request_id_is_in_the_response_and_in_the_log_of_the_session(
    client: httpx.Client, clip: Path, logs: Path
) -> None:
    answer = post(client, clip, **{"X-Request-ID": "my-request-7"})
    assert answer.headers.get_list("x-request-id") == ["my-request-7"]
    video_id = answer.json()["id"]
    assert finished(client, video_id) == "done"

    def is_logged() -> bool:
        texts = [path.read_text(errors="replace") for path in logs.glob("worker-*.err")]
        lines = [json.loads(line) for text in texts for line in re.findall(r"^{.*my-request-7.*}$", text, re.MULTILINE)]
        return {(line["logger"], line["message"]) for line in lines if line.get("video_id") == video_id} >= {
            ("motserve.ingress", "video accepted"),
            ("motserve.session", "session done"),
        }

    eventually(is_logged, "the lines of the request", 60)


def test_a_trace_goes_from_the_request_to_the_run_of_the_model(
    client: httpx.Client, clip: Path, collector: Collector
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = post(client, clip, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert finished(client, answer.json()["id"]) == "done"
    expected = {
        ("motserve-ingress", "POST /v1/videos"),
        *(("motserve-session", name) for name in ("session", "chunk", "decode", "detect", "embed", "write")),
        *(("motserve-detector", name) for name in ("detector", "queue", "model")),
        *(("motserve-reid", name) for name in ("reid", "queue", "model")),
    }

    def arrived() -> bool:
        return expected <= {(service, span.name) for service, span in collector.of(trace)}

    eventually(arrived, "all spans", 60)
    spans = {span.span_id: span for _, span in collector.of(trace)}
    model = next(
        span for service, span in collector.of(trace) if (service, span.name) == ("motserve-detector", "model")
    )
    path, span = [model.name], model
    while span.parent_span_id in spans:
        span = spans[span.parent_span_id]
        path.append(span.name)
    assert path == ["model", "detector", "detect", "chunk", "session", "POST /v1/videos"]
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert {one.trace_id.hex() for _, one in collector.spans} == {trace}, "another request was traced"

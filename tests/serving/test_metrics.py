"""The metrics of the service: of models, of sessions, and of all videos together."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_fakes import Board, put_up

from motserve.config import Config, MetricsConfig, TracingConfig, load_config
from motserve.errors import InvalidConfig
from motserve.pipeline.loop import track_frames
from motserve.pipeline.observer import PipelineStats
from motserve.serving.inference.batching import GreedyBatcher, Pass
from motserve.serving.observability.metrics import ModelMetrics, ServiceMetrics, VideoGauges, gpu_memory
from motserve.serving.observability.metrics_collector import Report, ReportAggregator
from motserve.serving.observability.progress import Progress
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.observability.tracing import Tracing
from motserve.serving.stores import Job, JobStore
from motserve.types import Detections, Frame


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    return put_up(monkeypatch)


def untraced() -> Tracing:
    return Tracing(TracingConfig(), "test")


# ---- models


def test_a_run_is_recorded_with_its_fill_and_the_queue_time_of_its_requests(board: Board) -> None:
    metrics = ModelMetrics("detector", 16)
    metrics.record_pass(Pass(12, 0.5, [0.1, 0.2], [copy_context()] * 2))
    metrics.record_pass(Pass(4, 0.25, [], [copy_context()]))
    assert board.recorded("motserve_model_batch_size", role="detector") == [12, 4]
    assert board.recorded("motserve_model_batch_fill") == [0.75, 0.25]
    assert board.recorded("motserve_model_queue_seconds") == [0.1, 0.2]
    assert board.recorded("motserve_model_pass_seconds") == [0.5, 0.25]
    assert board.total("motserve_model_items_total") == 16
    assert board.total("motserve_model_passes_total") == 2
    assert board.total("motserve_model_slots_total") == 32
    assert board.total("motserve_model_busy_seconds_total") == 0.75


def test_the_batcher_reports_the_queue_time_of_each_request() -> None:
    runs: list[Pass] = []

    def model(items: list[int]) -> list[int]:
        time.sleep(0.05)  # so that the requests that arrive meanwhile have waited
        if -1 in items:
            raise ValueError("no")
        return items

    async def run() -> None:
        batcher = GreedyBatcher(model, 4, runs.append)
        first = asyncio.create_task(batcher.submit([1] * 9))
        await asyncio.sleep(0)
        rest = [asyncio.create_task(batcher.submit([2])) for _ in range(3)]
        await asyncio.gather(first, *rest)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [done.items for done in runs] == [4, 4, 1, 3]
    assert [len(done.waited_s) for done in runs] == [1, 0, 0, 3]
    assert [len(done.contexts) for done in runs] == [1, 1, 1, 3]
    assert min(runs[3].waited_s) > 0.1 > runs[0].waited_s[0]
    assert all(done.seconds >= 0.05 for done in runs)


def test_counters_start_at_zero_so_that_prometheus_sees_their_first_increase(board: Board) -> None:
    ModelMetrics("reid", 8)
    ServiceMetrics()
    for name, kind in board.kinds.items():
        if kind == "counter":
            assert board.recorded(name), name
            assert 21 + board.total(name) == 21, name


class Cuda:
    def __init__(self, available: bool) -> None:
        self.is_available = lambda: available

    def mem_get_info(self) -> tuple[int, int]:
        return 3 << 30, 8 << 30


def test_gpu_memory_is_exported_if_there_is_a_gpu(board: Board) -> None:
    metrics = ModelMetrics("detector", 16)
    metrics.gpu(gpu_memory(Cuda(False)))
    assert not board.recorded("motserve_gpu_memory_used_bytes")
    metrics.gpu(gpu_memory(Cuda(True)))
    assert board.latest("motserve_gpu_memory_used_bytes", role="detector") == 5 << 30
    assert board.latest("motserve_gpu_memory_total_bytes", role="detector") == 8 << 30


def test_the_model_in_use_is_exported_and_whether_it_is_a_fallback(board: Board) -> None:
    metrics = ModelMetrics("reid", 16)
    metrics.model({"name": "bundled", "sha256": "ab" * 32, "fallback": "models:/people@production cannot be had"})
    assert board.latest("motserve_model_info", role="reid", weights="bundled", sha256="ab" * 6, fallback="true") == 1
    metrics.model({"name": "people/2", "sha256": "cd" * 32, "fallback": ""})
    assert board.latest("motserve_model_info", weights="people/2", fallback="false") == 1


# ---- one session


def frames(count: int) -> list[Frame]:
    return [Frame(index, index / 25, np.zeros((80, 80, 3), np.uint8)) for index in range(count)]


async def detect_one(images: list[Any]) -> list[Detections]:
    box = np.array([[10, 10, 30, 70]], np.float32)
    one = Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int64))
    return [one for _ in images]


async def embed(crops: Any) -> Any:
    return np.eye(1, 8, dtype=np.float32).repeat(len(crops), axis=0)


def configured(policy: str) -> Config:
    return load_config(
        [{"pipeline": {"first_chunk_size": 4, "chunk_size": 4, "window": 2}, "reid": {"policy": policy}}]
    )


async def track(
    telemetry: Telemetry, progress: Progress, config: Config, count: int, detect: Any = detect_one
) -> PipelineStats:
    stats = progress.stats
    progress.frames_expected = count
    telemetry.start()
    tracked = track_frames(iter(frames(count)), detect, embed, config, stats, 25.0, (80, 80), observer=telemetry)
    async with aclosing(tracked) as chunks:
        async for _ in chunks:
            with telemetry.write():
                pass
    return stats


def reported(telemetry: Telemetry, reports: list[Report], ending: Any = "done") -> Report:
    """Return the sum of all reports."""
    asyncio.run(telemetry.end(ending))
    counts = {key: sum(report.counts[key] for report in reports) for key in reports[0].counts}
    stages = {stage: [s for report in reports for s in report.stages.get(stage, [])] for stage in reports[-1].stages}
    return Report("v", counts, stages, reports[-1].ended)


def recording() -> tuple[Telemetry, Progress, list[Report]]:
    progress = Progress()
    reports: list[Report] = []

    async def send(report: Report) -> None:
        reports.append(report)

    return Telemetry("v", progress, send, None, untraced()), progress, reports


def test_a_session_counts_frames_and_measures_each_stage_of_each_chunk() -> None:
    telemetry, progress, reports = recording()
    asyncio.run(track(telemetry, progress, configured("always"), 10))
    whole = reported(telemetry, reports)
    assert (whole.counts["decoded"], whole.counts["tracked"], whole.ended) == (10, 10, "done")
    assert {stage: len(times) for stage, times in whole.stages.items() if stage != "write"} == {
        "decode": 3, "detect": 3, "embed": 3, "track": 3,
    }  # fmt: skip
    assert whole.stages["write"]
    assert all(seconds >= 0 for times in whole.stages.values() for seconds in times)


def test_time_of_embedding_is_not_counted_as_tracking() -> None:
    async def slowly(crops: Any) -> Any:
        await asyncio.sleep(0.05)
        return await embed(crops)

    telemetry, progress, reports = recording()

    async def run() -> None:
        stats = progress.stats
        telemetry.start()
        tracked = track_frames(
            iter(frames(4)), detect_one, slowly, configured("always"), stats, 25.0, (80, 80), observer=telemetry
        )
        async for _ in tracked:
            pass

    asyncio.run(run())
    whole = reported(telemetry, reports)
    assert whole.stages["embed"][0] >= 0.2 > whole.stages["track"][0]


@pytest.mark.parametrize(("policy", "all_embedded"), [("always", True), ("on_demand", False)])
def test_skipped_embeddings_are_those_that_policy_always_would_compute(policy: str, all_embedded: bool) -> None:
    telemetry, progress, reports = recording()
    stats = asyncio.run(track(telemetry, progress, configured(policy), 50))
    counts = reported(telemetry, reports).counts
    people = 50  # one in each frame
    assert counts["embeddings"] + counts["embeddings_skipped"] == people
    assert (counts["embeddings_skipped"] == 0) == all_embedded
    assert (stats.embeddings, stats.embeddings_skipped) == (counts["embeddings"], counts["embeddings_skipped"])


def test_no_embedding_is_skipped_if_reid_is_off() -> None:
    telemetry, progress, reports = recording()
    asyncio.run(track(telemetry, progress, configured("off"), 10))
    counts = reported(telemetry, reports).counts
    assert (counts["embeddings"], counts["embeddings_skipped"]) == (0, 0)


def test_counts_of_an_earlier_session_are_not_counted_again() -> None:
    telemetry, progress, reports = recording()
    progress.stats = PipelineStats(frames=100, embeddings=7)
    telemetry.start()
    assert not any(reported(telemetry, reports).counts.values())


def test_only_one_report_is_in_flight_and_none_is_missing_at_the_end() -> None:
    reports: list[Report] = []

    async def run() -> None:
        go = asyncio.Event()

        async def send(report: Report) -> None:
            await go.wait()
            reports.append(report)

        telemetry = Telemetry("v", Progress(), send, None, untraced())
        for _ in range(10):
            telemetry.decoded(1)
            telemetry.report()
            await asyncio.sleep(0)
        assert not reports
        go.set()
        await telemetry.end("done")

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [(report.counts["decoded"], report.ended) for report in reports] == [(1, None), (9, "done")]


def test_a_collector_that_fails_or_hangs_does_not_hold_up_a_video(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("motserve.serving.observability.telemetry._LAST_REPORT_TIMEOUT_S", 0.05)

    async def refuse(report: Report) -> None:
        raise ConnectionError("gone")

    async def hang(report: Report) -> None:
        await asyncio.Event().wait()

    for send, message in ((refuse, "gone"), (hang, "does not answer")):
        asyncio.run(asyncio.wait_for(Telemetry("v", Progress(), send, None, untraced()).end("done"), 60))
        assert message in caplog.text


def test_gauges_of_a_video_have_its_id(board: Board) -> None:
    async def send(report: Report) -> None:
        pass

    progress = Progress()
    telemetry = Telemetry("v7", progress, send, VideoGauges("v7"), untraced())
    asyncio.run(track(telemetry, progress, configured("always"), 10))
    telemetry.export_gauges()
    for name, value in (("decoded", 10), ("tracked", 10), ("expected", 10)):
        assert board.latest(f"motserve_video_frames_{name}", video_id="v7") == value
    assert board.latest("motserve_video_identities", video_id="v7") == 1
    assert board.latest("motserve_video_embeddings", video_id="v7") == 10
    assert board.latest("motserve_video_stage_seconds", video_id="v7", stage="detect") > 0


def test_only_gauges_have_the_id_of_a_video(board: Board) -> None:
    """A counter with an ID would stay in Ray's agent after its video has ended."""
    VideoGauges("v")
    assert set(board.kinds.values()) == {"gauge"}
    ModelMetrics("detector", 1)
    ServiceMetrics()
    assert not any("video_id" in dict(series) for name in board.values for series in board.values[name])


# ---- all videos


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def jobs(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path)


def add(jobs: JobStore, video_id: str, **changes: Any) -> None:
    jobs.add(Job(video_id, "name", "source", 0.0), 100, 1)
    if changes:
        assert jobs.write(video_id, 0, **changes)


def report(video_id: str, decoded: int, tracked: int, ended: Any = None) -> Report:
    return Report(video_id, {"decoded": decoded, "tracked": tracked}, {"detect": [0.1]}, ended)


def test_reports_are_added_up(board: Board, jobs: JobStore) -> None:
    aggregator = ReportAggregator(jobs, ServiceMetrics(), 8)
    aggregator.record(report("a", 16, 8))
    aggregator.record(report("b", 8, 0))
    aggregator.record(report("a", 0, 8, "done"))
    assert round(board.total("motserve_frames_decoded_total")) == 24
    assert round(board.total("motserve_frames_tracked_total")) == 16
    assert len(board.recorded("motserve_stage_seconds", stage="detect")) == 3
    assert round(board.total("motserve_stage_busy_seconds_total", stage="detect"), 6) == 0.3
    assert board.total("motserve_videos_total", status="done") == 1
    assert round(board.total("motserve_frames_dropped_total")) == 0


def test_frames_of_a_video_that_failed_are_dropped(board: Board, jobs: JobStore) -> None:
    aggregator = ReportAggregator(jobs, ServiceMetrics(), 8)
    aggregator.record(report("a", 16, 4))
    aggregator.record(report("a", 0, 1, "failed"))
    assert board.total("motserve_frames_dropped_total", status="failed") == 11
    assert board.total("motserve_videos_total", status="failed") == 1


def test_frames_of_a_lost_session_are_not_dropped_if_the_next_session_is_done(board: Board, jobs: JobStore) -> None:
    aggregator = ReportAggregator(jobs, ServiceMetrics(), 8)
    aggregator.record(report("a", 16, 8))
    aggregator.record(report("a", 20, 20, "done"))
    aggregator.record(report("a", 8, 0))  # a late report of the first session
    aggregator.record(report("a", 0, 0, "failed"))
    assert round(board.total("motserve_frames_dropped_total")) == 0
    assert board.total("motserve_videos_total", status="done") == 1
    assert round(board.total("motserve_videos_total", status="failed")) == 0


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (None, "deleted"),
        ({"status": "failed", "error": {"type": "SessionLost", "message": ""}}, "lost"),
        ({"status": "failed", "error": {"type": "InvalidVideo", "message": ""}}, "failed"),
        ({"status": "done"}, "done"),
    ],
)
def test_a_session_that_ends_without_a_last_report_is_noticed(
    board: Board, jobs: JobStore, row: dict[str, Any] | None, status: str
) -> None:
    clock = Clock()
    aggregator = ReportAggregator(jobs, ServiceMetrics(), 8, clock)
    add(jobs, "a", status="running")
    aggregator.record(report("a", 16, 6))
    asyncio.run(aggregator.refresh())
    if row is None:
        jobs.delete("a")
    else:
        assert jobs.write("a", 0, **row)
    asyncio.run(aggregator.refresh())
    assert board.total("motserve_videos_total", status=status) < 1, "its last report may still arrive"
    clock.now = 60.0
    asyncio.run(aggregator.refresh())
    asyncio.run(aggregator.refresh())
    assert board.total("motserve_videos_total", status=status) == 1
    assert round(board.total("motserve_frames_dropped_total")) == (0 if status == "done" else 10)


def test_an_active_video_never_ends_for_lack_of_reports(board: Board, jobs: JobStore) -> None:
    clock = Clock()
    aggregator = ReportAggregator(jobs, ServiceMetrics(), 8, clock)
    add(jobs, "a", status="running")
    aggregator.record(report("a", 16, 6))
    clock.now = 1e6
    asyncio.run(aggregator.refresh())
    assert round(board.total("motserve_videos_total")) == 0


def test_active_videos_are_counted(board: Board, jobs: JobStore) -> None:
    for video_id, status in (("a", "running"), ("b", "running"), ("c", "queued"), ("d", "done")):
        add(jobs, video_id, status=status)
    asyncio.run(ReportAggregator(jobs, ServiceMetrics(), 8).refresh())
    assert board.latest("motserve_sessions", status="running") == 2
    assert board.latest("motserve_sessions", status="queued") == 1
    assert board.latest("motserve_sessions_max") == 8


def test_gauges_cannot_be_set_too_rarely_for_ray() -> None:
    with pytest.raises(ValueError, match="less than or equal to 10"):
        MetricsConfig(refresh_s=30)
    with pytest.raises(InvalidConfig, match="refresh"):
        load_config([{"serving": {"metrics": {"refresh": 5}}}])

"""What the service counts: at the models, in sessions, and for all videos together."""

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
from motserve.pipeline import PipelineStats, track_frames
from motserve.serving.inference.batching import GreedyBatcher, Pass
from motserve.serving.observability.metrics import ModelMetrics, ServiceMetrics, VideoGauges, gpu_memory
from motserve.serving.observability.metrics_collector import Report, VideoLedger
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.observability.tracing import Tracing
from motserve.serving.stores import Job, JobStore
from motserve.types import Detections, Frame


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    return put_up(monkeypatch)


def untraced() -> Tracing:
    return Tracing(TracingConfig(), "test")


# ---- at the models


def test_a_run_is_counted_with_its_fill_and_how_long_its_requests_waited(board: Board) -> None:
    metrics = ModelMetrics("detector", 16)
    metrics.record_pass(Pass(12, 0.5, [0.1, 0.2], [copy_context()] * 2))
    metrics.record_pass(Pass(4, 0.25, [], [copy_context()]))
    assert board.told("motserve_model_batch_size", role="detector") == [12, 4]
    assert board.told("motserve_model_batch_fill") == [0.75, 0.25]
    assert board.told("motserve_model_queue_seconds") == [0.1, 0.2]
    assert board.told("motserve_model_pass_seconds") == [0.5, 0.25]
    assert board.total("motserve_model_items_total") == 16
    assert board.total("motserve_model_passes_total") == 2
    assert board.total("motserve_model_slots_total") == 32
    assert board.total("motserve_model_busy_seconds_total") == 0.75


def test_the_batcher_tells_how_long_each_request_waited_for_its_first_run() -> None:
    runs: list[Pass] = []

    def model(items: list[int]) -> list[int]:
        time.sleep(0.05)  # so that what comes meanwhile has waited
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


def test_counters_begin_at_nothing_so_that_their_first_increase_is_seen(board: Board) -> None:
    ModelMetrics("reid", 8)
    ServiceMetrics()
    for name, kind in board.kinds.items():
        if kind == "counter":
            assert board.told(name), name
            assert 21 + board.total(name) == 21, name


class Cuda:
    def __init__(self, available: bool) -> None:
        self.is_available = lambda: available

    def mem_get_info(self) -> tuple[int, int]:
        return 3 << 30, 8 << 30


def test_memory_of_a_gpu_is_told_where_there_is_one(board: Board) -> None:
    metrics = ModelMetrics("detector", 16)
    metrics.gpu(gpu_memory(Cuda(False)))
    assert not board.told("motserve_gpu_memory_used_bytes")
    metrics.gpu(gpu_memory(Cuda(True)))
    assert board.latest("motserve_gpu_memory_used_bytes", role="detector") == 5 << 30
    assert board.latest("motserve_gpu_memory_total_bytes", role="detector") == 8 << 30


def test_the_model_in_use_is_named_and_whether_others_were_preferred(board: Board) -> None:
    metrics = ModelMetrics("reid", 16)
    metrics.model({"name": "bundled", "sha256": "ab" * 32, "fallback": "models:/people@production cannot be had"})
    assert board.latest("motserve_model_info", role="reid", weights="bundled", sha256="ab" * 6, fallback="true") == 1
    metrics.model({"name": "people/2", "sha256": "cd" * 32, "fallback": ""})
    assert board.latest("motserve_model_info", weights="people/2", fallback="false") == 1


# ---- in a session


def frames(count: int) -> list[Frame]:
    return [Frame(index, index / 25, np.zeros((80, 80, 3), np.uint8)) for index in range(count)]


async def see_somebody(images: list[Any]) -> list[Detections]:
    box = np.array([[10, 10, 30, 70]], np.float32)
    one = Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int64))
    return [one for _ in images]


async def embed(crops: Any) -> Any:
    return np.eye(1, 8, dtype=np.float32).repeat(len(crops), axis=0)


def configured(policy: str) -> Config:
    return load_config([{"pipeline": {"chunk_size": 4, "window": 2}, "reid": {"policy": policy}}])


async def follow(activity: Telemetry, config: Config, count: int, detect: Any = see_somebody) -> PipelineStats:
    stats = PipelineStats()
    activity.follow(stats, count)
    tracked = track_frames(iter(frames(count)), detect, embed, config, stats, 25.0, (80, 80), observer=activity)
    async with aclosing(tracked) as chunks:
        async for _ in chunks:
            with activity.write():
                pass
    return stats


def reported(activity: Telemetry, reports: list[Report], ending: Any = "done") -> Report:
    """All reports as one."""
    asyncio.run(activity.end(ending))
    counts = {key: sum(report.counts[key] for report in reports) for key in reports[0].counts}
    stages = {stage: [s for report in reports for s in report.stages.get(stage, [])] for stage in reports[-1].stages}
    return Report("v", counts, stages, reports[-1].ended)


def gathering() -> tuple[Telemetry, list[Report]]:
    reports: list[Report] = []

    async def send(report: Report) -> None:
        reports.append(report)

    return Telemetry("v", send, None, untraced()), reports


def test_a_session_counts_frames_and_measures_each_stage_of_each_chunk() -> None:
    activity, reports = gathering()
    asyncio.run(follow(activity, configured("always"), 10))
    whole = reported(activity, reports)
    assert (whole.counts["decoded"], whole.counts["tracked"], whole.ended) == (10, 10, "done")
    assert {stage: len(times) for stage, times in whole.stages.items() if stage != "write"} == {
        "decode": 3, "detect": 3, "embed": 3, "track": 3,
    }  # fmt: skip
    assert whole.stages["write"]
    assert all(seconds >= 0 for times in whole.stages.values() for seconds in times)


def test_embedding_is_no_part_of_the_time_of_tracking() -> None:
    async def slowly(crops: Any) -> Any:
        await asyncio.sleep(0.05)
        return await embed(crops)

    activity, reports = gathering()

    async def run() -> None:
        stats = PipelineStats()
        activity.follow(stats, 4)
        tracked = track_frames(
            iter(frames(4)), see_somebody, slowly, configured("always"), stats, 25.0, (80, 80), observer=activity
        )
        async for _ in tracked:
            pass

    asyncio.run(run())
    whole = reported(activity, reports)
    assert whole.stages["embed"][0] >= 0.2 > whole.stages["track"][0]


@pytest.mark.parametrize(("policy", "all_embedded"), [("always", True), ("on_demand", False)])
def test_spared_embeddings_are_those_that_always_would_have_computed(policy: str, all_embedded: bool) -> None:
    activity, reports = gathering()
    stats = asyncio.run(follow(activity, configured(policy), 50))
    counts = reported(activity, reports).counts
    people = 50  # one in each frame
    assert counts["embeddings"] + counts["spared"] == people
    assert (counts["spared"] == 0) == all_embedded
    assert (stats.embeddings, stats.spared) == (counts["embeddings"], counts["spared"])


def test_nothing_is_spared_where_nobody_is_ever_embedded() -> None:
    activity, reports = gathering()
    asyncio.run(follow(activity, configured("off"), 10))
    counts = reported(activity, reports).counts
    assert (counts["embeddings"], counts["spared"]) == (0, 0)


def test_what_was_counted_before_a_session_is_not_counted_again() -> None:
    activity, reports = gathering()
    activity.follow(PipelineStats(frames=100, embeddings=7), None)
    assert not any(reported(activity, reports).counts.values())


def test_reports_do_not_pile_up_and_nothing_is_missing_at_the_end() -> None:
    reports: list[Report] = []

    async def run() -> None:
        go = asyncio.Event()

        async def send(report: Report) -> None:
            await go.wait()
            reports.append(report)

        activity = Telemetry("v", send, None, untraced())
        for _ in range(10):
            activity.decoded(1)
            activity.report()
            await asyncio.sleep(0)
        assert not reports
        go.set()
        await activity.end("done")

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [(report.counts["decoded"], report.ended) for report in reports] == [(1, None), (9, "done")]


def test_a_monitor_that_fails_or_hangs_does_not_hold_up_a_video(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("motserve.serving.observability.telemetry._PATIENCE_S", 0.05)

    async def refuse(report: Report) -> None:
        raise ConnectionError("gone")

    async def hang(report: Report) -> None:
        await asyncio.Event().wait()

    for send, said in ((refuse, "gone"), (hang, "does not answer")):
        asyncio.run(asyncio.wait_for(Telemetry("v", send, None, untraced()).end("done"), 60))
        assert said in caplog.text


def test_gauges_of_a_video_have_its_id(board: Board) -> None:
    async def send(report: Report) -> None:
        pass

    activity = Telemetry("v7", send, VideoGauges("v7"), untraced())
    asyncio.run(follow(activity, configured("always"), 10))
    activity.show()
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


# ---- for all videos


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
    ledger = VideoLedger(jobs, ServiceMetrics(), 8)
    ledger.record(report("a", 16, 8))
    ledger.record(report("b", 8, 0))
    ledger.record(report("a", 0, 8, "done"))
    assert round(board.total("motserve_frames_decoded_total")) == 24
    assert round(board.total("motserve_frames_tracked_total")) == 16
    assert len(board.told("motserve_stage_seconds", stage="detect")) == 3
    assert round(board.total("motserve_stage_busy_seconds_total", stage="detect"), 6) == 0.3
    assert board.total("motserve_videos_total", status="done") == 1
    assert round(board.total("motserve_frames_dropped_total")) == 0


def test_frames_of_a_video_that_failed_are_dropped(board: Board, jobs: JobStore) -> None:
    ledger = VideoLedger(jobs, ServiceMetrics(), 8)
    ledger.record(report("a", 16, 4))
    ledger.record(report("a", 0, 1, "failed"))
    assert board.total("motserve_frames_dropped_total", status="failed") == 11
    assert board.total("motserve_videos_total", status="failed") == 1


def test_what_a_lost_session_had_decoded_is_not_dropped_where_the_next_one_is_done(
    board: Board, jobs: JobStore
) -> None:
    ledger = VideoLedger(jobs, ServiceMetrics(), 8)
    ledger.record(report("a", 16, 8))
    ledger.record(report("a", 20, 20, "done"))
    ledger.record(report("a", 8, 0))  # of the first, late
    ledger.record(report("a", 0, 0, "failed"))
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
def test_a_session_that_ends_without_a_word_is_noticed(
    board: Board, jobs: JobStore, row: dict[str, Any] | None, status: str
) -> None:
    clock = Clock()
    ledger = VideoLedger(jobs, ServiceMetrics(), 8, clock)
    add(jobs, "a", status="running")
    ledger.record(report("a", 16, 6))
    asyncio.run(ledger.look())
    if row is None:
        jobs.delete("a")
    else:
        assert jobs.write("a", 0, **row)
    asyncio.run(ledger.look())
    assert board.total("motserve_videos_total", status=status) < 1, "its last report may be on the way"
    clock.now = 60.0
    asyncio.run(ledger.look())
    asyncio.run(ledger.look())
    assert board.total("motserve_videos_total", status=status) == 1
    assert round(board.total("motserve_frames_dropped_total")) == (0 if status == "done" else 10)


def test_a_video_in_work_is_not_given_up_however_long_it_is_silent(board: Board, jobs: JobStore) -> None:
    clock = Clock()
    ledger = VideoLedger(jobs, ServiceMetrics(), 8, clock)
    add(jobs, "a", status="running")
    ledger.record(report("a", 16, 6))
    clock.now = 1e6
    asyncio.run(ledger.look())
    assert round(board.total("motserve_videos_total")) == 0


def test_videos_in_work_are_counted(board: Board, jobs: JobStore) -> None:
    for video_id, status in (("a", "running"), ("b", "running"), ("c", "queued"), ("d", "done")):
        add(jobs, video_id, status=status)
    asyncio.run(VideoLedger(jobs, ServiceMetrics(), 8).look())
    assert board.latest("motserve_sessions", status="running") == 2
    assert board.latest("motserve_sessions", status="queued") == 1
    assert board.latest("motserve_sessions_max") == 8


def test_gauges_cannot_be_set_too_rarely_for_ray() -> None:
    with pytest.raises(ValueError, match="less than or equal to 10"):
        MetricsConfig(refresh_s=30)
    with pytest.raises(InvalidConfig, match="refresh"):
        load_config([{"serving": {"metrics": {"refresh": 5}}}])

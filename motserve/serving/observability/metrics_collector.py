"""The deployment that adds up the metrics of all videos. Sessions are short-lived, so their counts live here.

It has one replica and no state that matters: when it dies, its counters restart at zero, as Prometheus expects.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from motserve.config import Config
from motserve.config.logs import setup_logging
from motserve.pipeline.observer import Stage
from motserve.serving.observability.metrics import STALE, Ending, ServiceMetrics
from motserve.serving.periodic import repeat
from motserve.serving.stores import ACTIVE, Job, JobStore

logger = logging.getLogger("motserve.metrics")

_SILENCE_S: Final = 15.0  # a session reports its end at once: after a longer silence no report will come


@dataclass(frozen=True, slots=True)
class Report:
    """What happened to one video since its previous report.

    Attributes:
        video_id: The video.
        counts: Increase of each of `motserve.serving.observability.metrics.COUNTS`.
        stages: Seconds that each chunk took in each stage.
        ended: How the video ended; None while it is active.
    """

    video_id: str
    counts: dict[str, int]
    stages: dict[Stage, list[float]]
    ended: Ending | None = None


class MetricsCollector:
    """Receives the reports of all sessions, and detects sessions that ended without one.

    Args:
        config: The configuration, paths absolute.
    """

    def __init__(self, config: Config) -> None:
        setup_logging(config.logging)
        serving = config.serving
        self._aggregator = ReportAggregator(JobStore(serving.storage_dir), ServiceMetrics(), serving.max_active_videos)
        refresh = repeat(self._aggregator.refresh, serving.metrics.refresh_s, logger, STALE)
        self._refreshing = asyncio.create_task(refresh)

    async def record(self, report: Report) -> None:
        """Add what a session did since its previous report."""
        self._aggregator.record(report)


@dataclass(slots=True)
class _Video:
    pending: int
    """Frames decoded and not tracked yet."""
    reported_at: float


class ReportAggregator:
    """Adds up the reports of all sessions, and keeps track of the active videos.

    Args:
        jobs: The job store.
        metrics: The metrics to update.
        max_active: Most videos that may be active at a time.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self, jobs: JobStore, metrics: ServiceMetrics, max_active: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._jobs = jobs
        self._metrics = metrics
        self._max_active = max_active
        self._clock = clock
        self._videos: dict[str, _Video] = {}
        self._ended: dict[str, float] = {}
        """When videos ended recently: a session that was replaced may still report."""

    def record(self, report: Report) -> None:
        """Add a report."""
        for key, value in report.counts.items():
            self._metrics.count(key, value)
        for stage, times in report.stages.items():
            for seconds in times:
                self._metrics.stage(stage, seconds)
        if report.video_id in self._ended:
            return
        video = self._videos.setdefault(report.video_id, _Video(0, 0.0))
        video.pending += report.counts.get("decoded", 0) - report.counts.get("tracked", 0)
        video.reported_at = self._clock()
        if report.ended is not None:
            self._end(report.video_id, report.ended)

    async def refresh(self) -> None:
        """Set the number of active videos, and end the videos whose session stopped without a last report."""
        active, rows = await asyncio.to_thread(self._read, list(self._videos))
        per_status = Counter(job.status for job in active)
        self._metrics.sessions(per_status["queued"], per_status["running"], self._max_active)
        now = self._clock()
        self._ended = {video_id: at for video_id, at in self._ended.items() if now - at < 2 * _SILENCE_S}
        for video_id, video in list(self._videos.items()):
            if now - video.reported_at >= _SILENCE_S and video_id in rows:
                ending = ending_of(rows[video_id])
                if ending is not None:
                    self._end(video_id, ending)

    def _read(self, video_ids: list[str]) -> tuple[list[Job], dict[str, Job | None]]:
        jobs = self._jobs.get_many(video_ids)
        return self._jobs.active(), {video_id: jobs.get(video_id) for video_id in video_ids}

    def _end(self, video_id: str, ending: Ending) -> None:
        video = self._videos.pop(video_id)
        self._ended[video_id] = self._clock()
        # the next session decoded again what a lost session had decoded
        dropped = 0 if ending == "done" else video.pending
        self._metrics.ended(ending, dropped)
        if dropped > 0:
            extra = {"video_id": video_id, "status": ending, "frames": dropped}
            logger.warning("frames were decoded and never tracked", extra=extra)


def ending_of(job: Job | None) -> Ending | None:
    """Return how a video ended whose session did not report it; None while the video is active.

    Args:
        job: Its row; None if there is no such row any more.
    """
    if job is None:
        return "deleted"
    if job.status in ACTIVE:
        return None
    if job.status == "done":
        return "done"
    return "lost" if (job.error or {}).get("type") == "SessionLost" else "failed"

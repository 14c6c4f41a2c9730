"""The deployment that counts for all videos: sessions come and go, so what they did is kept here.

One replica, without state that matters: when it dies its counters begin at zero again, as Prometheus expects.
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

logger = logging.getLogger("motserve.monitor")

_SILENCE_S: Final = 15.0  # a session that is done reports at once; of one that was silent for longer nothing will come


@dataclass(frozen=True, slots=True)
class Report:
    """What has happened to one video since its report before.

    Attributes:
        video_id: The video.
        counts: What to add to each of `motserve.serving.observability.metrics.COUNTS`.
        stages: Seconds that each chunk took in each stage.
        ended: What became of the video; None while it is in work.
    """

    video_id: str
    counts: dict[str, int]
    stages: dict[Stage, list[float]]
    ended: Ending | None = None


class MetricsCollector:
    """Takes the reports of all sessions, and looks for those that ended without one.

    Args:
        config: The configuration, paths absolute.
    """

    def __init__(self, config: Config) -> None:
        setup_logging(config.logging)
        serving = config.serving
        self._ledger = VideoLedger(JobStore(serving.storage_dir), ServiceMetrics(), serving.max_active_videos)
        self._refreshing = asyncio.create_task(repeat(self._ledger.look, serving.metrics.refresh_s, logger, STALE))

    async def record(self, report: Report) -> None:
        """Take what a session did since its report before."""
        self._ledger.record(report)


@dataclass(slots=True)
class _Video:
    pending: int
    """Frames decoded and not tracked yet."""
    heard: float


class VideoLedger:
    """Adds up reports, and knows which videos are on their way.

    Args:
        jobs: The job store.
        metrics: Where it is told.
        most: Videos that may be in work at a time.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self, jobs: JobStore, metrics: ServiceMetrics, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._jobs = jobs
        self._metrics = metrics
        self._most = most
        self._clock = clock
        self._videos: dict[str, _Video] = {}
        self._ended: dict[str, float] = {}
        """When videos ended, of late: sessions that were replaced may still report."""

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
        video.heard = self._clock()
        if report.ended is not None:
            self._end(report.video_id, report.ended)

    async def look(self) -> None:
        """Tell how many videos are in work, and end those that are not and did not say so."""
        active, rows = await asyncio.to_thread(self._read, list(self._videos))
        found = Counter(job.status for job in active)
        self._metrics.sessions(found["queued"], found["running"], self._most)
        now = self._clock()
        self._ended = {video_id: at for video_id, at in self._ended.items() if now - at < 2 * _SILENCE_S}
        for video_id, video in list(self._videos.items()):
            if now - video.heard >= _SILENCE_S and video_id in rows:
                ending = ending_of(rows[video_id])
                if ending is not None:
                    self._end(video_id, ending)

    def _read(self, video_ids: list[str]) -> tuple[list[Job], dict[str, Job | None]]:
        jobs = self._jobs.several(video_ids)
        return self._jobs.active(), {video_id: jobs.get(video_id) for video_id in video_ids}

    def _end(self, video_id: str, ending: Ending) -> None:
        video = self._videos.pop(video_id)
        self._ended[video_id] = self._clock()
        # what a lost session had decoded, the one after it decoded again
        dropped = 0 if ending == "done" else video.pending
        self._metrics.ended(ending, dropped)
        if dropped > 0:
            extra = {"video_id": video_id, "status": ending, "frames": dropped}
            logger.warning("frames were decoded and never tracked", extra=extra)


def ending_of(job: Job | None) -> Ending | None:
    """Return what became of a video whose session said nothing; None while it is in work.

    Args:
        job: Its row; None where there is none any more.
    """
    if job is None:
        return "deleted"
    if job.status in ACTIVE:
        return None
    if job.status == "done":
        return "done"
    return "lost" if (job.error or {}).get("type") == "SessionLost" else "failed"

"""The telemetry of one session: counts and stage times of its video, reported at intervals.

A session may live for seconds only, and what Prometheus has not read by then is lost. Counts of the whole service
are therefore reported to the `MetricsCollector`, which outlives sessions. A session waits at its end until its last
report has arrived.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace

from motserve.pipeline.observer import Stage
from motserve.serving.observability.metrics import Ending, VideoGauges
from motserve.serving.observability.metrics_collector import Report
from motserve.serving.observability.progress import Progress
from motserve.serving.observability.tracing import Tracing

logger = logging.getLogger("motserve.session")

_MAX_STAGE_TIMES: Final = 4096  # per stage, while the collector accepts no report
_LAST_REPORT_TIMEOUT_S: Final = 5.0

Send = Callable[[Report], Awaitable[None]]


class Telemetry:
    """Counts and measures what one session does. It is the pipeline's observer.

    Args:
        video_id: The video.
        progress: The progress of the video.
        send: Sends a report to the `MetricsCollector`.
        gauges: Gauges of this video's progress; None for no gauges.
        tracing: Makes spans of chunks and stages.
    """

    def __init__(
        self, video_id: str, progress: Progress, send: Send, gauges: VideoGauges | None, tracing: Tracing
    ) -> None:
        self._video_id = video_id
        self._progress = progress
        self._send = send
        self._gauges = gauges
        self._tracing = tracing
        self._reported: dict[str, int] = {}
        self._stages: dict[Stage, deque[float]] = {}
        self._stage_totals: dict[Stage, float] = {}
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to count; an earlier session has reported the present counts."""
        self._reported = self._progress.counts()

    def decoded(self, frames: int) -> None:
        """Count decoded frames."""
        self._progress.frames_decoded += frames

    def chunk(self) -> ChunkTelemetry:
        """Return the telemetry of the next chunk."""
        return ChunkTelemetry(self._tracing, self._tracing.start_child("chunk"), self._add_time)

    @contextmanager
    def write(self) -> Iterator[None]:
        """Measure the writing of results."""
        began = time.perf_counter()
        with self._tracing.span("write"):
            yield
        self._add_time("write", time.perf_counter() - began)

    def export_gauges(self) -> None:
        """Set the gauges of this video."""
        if self._gauges is not None:
            progress = self._progress
            identities: dict[str, float | None] = {
                "identities": progress.stats.identities,
                "expected": progress.frames_expected,
            }
            counts = {key: value for key, value in progress.counts().items() if key != "retried"}
            self._gauges.set(identities | counts, self._stage_totals)

    def report(self) -> None:
        """Report what is new, unless the previous report has not arrived yet."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._deliver(self._next_report()))

    async def end(self, ending: Ending | None) -> None:
        """Send the last report and wait until it has arrived; after a timeout it is missing from the metrics.

        Args:
            ending: How the video ended; None if another session continues it.
        """

        async def finish() -> None:
            if self._sending is not None:
                await self._sending
            await self._deliver(self._next_report(ending))

        try:
            await asyncio.wait_for(finish(), _LAST_REPORT_TIMEOUT_S)
        except asyncio.TimeoutError:
            logger.warning("the metrics collector does not answer; the end of this video is missing from the metrics")

    async def _deliver(self, report: Report) -> None:
        try:
            await self._send(report)
        except Exception as error:  # metrics must not fail a video
            logger.warning("a report to the metrics collector was lost, and is missing from the metrics: %s", error)

    def _add_time(self, stage: Stage, seconds: float) -> None:
        self._stages.setdefault(stage, deque(maxlen=_MAX_STAGE_TIMES)).append(seconds)
        self._stage_totals[stage] = self._stage_totals.get(stage, 0.0) + seconds

    def _next_report(self, ended: Ending | None = None) -> Report:
        counts = self._progress.counts()
        new = {key: value - self._reported.get(key, 0) for key, value in counts.items()}
        self._reported = counts
        stages, self._stages = self._stages, {}
        return Report(self._video_id, new, {stage: list(seconds) for stage, seconds in stages.items()}, ended)


@dataclass(slots=True)
class ChunkTelemetry:
    """Measures the stages of one chunk of frames; made by `Telemetry.chunk`."""

    _tracing: Tracing
    _span: trace.Span
    _add_time: Callable[[Stage, float], None]
    _seconds: dict[Stage, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Measure a stage."""
        began = time.perf_counter()
        with self._spanned(stage):
            yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - began

    def ended(self, frames: int) -> None:
        """Record how long each stage took."""
        if frames:
            if "track" in self._seconds:  # the stage `embed` runs inside the stage `track`
                self._seconds["track"] -= self._seconds.get("embed", 0.0)
            for stage, seconds in self._seconds.items():
                self._add_time(stage, seconds)
        self._span.set_attribute("frames", frames)
        self._span.end()

    def _spanned(self, stage: Stage) -> AbstractContextManager[object]:
        if stage == "track":  # it is entered for each frame, too often for a span each
            return nullcontext()
        return self._tracing.child_of(self._span, stage, "client" if stage in ("detect", "embed") else "internal")

"""What a session tells of its video: counts and times, gathered while it works and reported now and then.

A session is gone seconds after it began, and with it all that Prometheus has not read yet. What counts for the service
as a whole is therefore reported to the `MetricsCollector`, which stays; at the end the session waits until that has arrived.
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

from motserve.pipeline import PipelineStats
from motserve.pipeline.observer import Stage
from motserve.serving.observability.metrics import Ending, VideoGauges
from motserve.serving.observability.metrics_collector import Report
from motserve.serving.observability.tracing import Tracing

logger = logging.getLogger("motserve.session")

_KEPT: Final = 4096  # times of a stage, while the monitor does not take them
_PATIENCE_S: Final = 5.0  # for which a session that is done waits for the monitor


Send = Callable[[Report], Awaitable[None]]


class Telemetry:
    """Gathers what one video's session does. It is the pipeline's observer.

    Args:
        video_id: The video.
        send: Hands a report to the monitor.
        gauges: Told of how far the video is; None for nobody.
        tracing: Makes spans of chunks and stages.
    """

    def __init__(self, video_id: str, send: Send, gauges: VideoGauges | None, tracing: Tracing) -> None:
        self._stats = PipelineStats()
        self._expected: int | None = None
        self._video_id = video_id
        self._send = send
        self._gauges = gauges
        self._tracing = tracing
        self._decoded = 0
        self._repeated = 0
        self._told: dict[str, int] = {}
        self._stages: dict[Stage, deque[float]] = {}
        self._spent: dict[Stage, float] = {}
        self._sending: asyncio.Task[None] | None = None

    def follow(self, stats: PipelineStats, expected: int | None) -> None:
        """Begin with a video.

        Args:
            stats: Counters that the pipeline keeps up to date; what they hold now was counted by somebody else.
            expected: Frames of the video; None where that is not known.
        """
        self._stats, self._expected = stats, expected
        self._told = self._counts()

    def decoded(self, frames: int) -> None:
        """Count decoded frames."""
        self._decoded += frames

    def repeated(self) -> None:
        """Count a request that is made again."""
        self._repeated += 1

    def chunk(self) -> ChunkTelemetry:
        """Return who is told of the next chunk."""
        return ChunkTelemetry(self._tracing, self._tracing.open("chunk"), self._took)

    @contextmanager
    def write(self) -> Iterator[None]:
        """Measure the writing of results."""
        began = time.perf_counter()
        with self._tracing.span("write"):
            yield
        self._took("write", time.perf_counter() - began)

    def show(self) -> None:
        """Set the gauges of this video."""
        if self._gauges is not None:
            identities: dict[str, float | None] = {"identities": self._stats.identities, "expected": self._expected}
            self._gauges.set(identities | {k: v for k, v in self._counts().items() if k != "repeated"}, self._spent)

    def report(self) -> None:
        """Report what is new, unless the report before is still on its way."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._deliver(self._news()))

    async def end(self, ending: Ending | None) -> None:
        """Report all that is left, and wait until it has arrived; for a while, then it is missing from the metrics.

        Args:
            ending: What became of the video; None where another session goes on with it.
        """

        async def finish() -> None:
            if self._sending is not None:
                await self._sending
            await self._deliver(self._news(ending))

        try:
            await asyncio.wait_for(finish(), _PATIENCE_S)
        except asyncio.TimeoutError:
            logger.warning("the monitor does not answer; the end of this video is missing from the metrics")

    async def _deliver(self, report: Report) -> None:
        try:
            await self._send(report)
        except Exception as error:  # metrics must not fail a video
            logger.warning("a report to the monitor was lost, and is missing from the metrics: %s", error)

    def _took(self, stage: Stage, seconds: float) -> None:
        self._stages.setdefault(stage, deque(maxlen=_KEPT)).append(seconds)
        self._spent[stage] = self._spent.get(stage, 0.0) + seconds

    def _counts(self) -> dict[str, int]:
        stats = self._stats
        return {
            "decoded": self._decoded,
            "tracked": stats.frames,
            "embeddings": stats.embeddings,
            "spared": stats.spared,
            "links": stats.links,
            "repeated": self._repeated,
        }

    def _news(self, ended: Ending | None = None) -> Report:
        counts = self._counts()
        new = {key: value - self._told.get(key, 0) for key, value in counts.items()}
        self._told = counts
        stages, self._stages = self._stages, {}
        return Report(self._video_id, new, {stage: list(seconds) for stage, seconds in stages.items()}, ended)


@dataclass(slots=True)
class ChunkTelemetry:
    """Measures the stages of one chunk of frames; made by `Telemetry.chunk`."""

    _tracing: Tracing
    _span: trace.Span
    _took: Callable[[Stage, float], None]
    _seconds: dict[Stage, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Measure a stage."""
        began = time.perf_counter()
        with self._spanned(stage):
            yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - began

    def ended(self, frames: int) -> None:
        """Tell how long each stage took."""
        if frames:
            if "track" in self._seconds:  # people are embedded while their frame is tracked
                self._seconds["track"] -= self._seconds.get("embed", 0.0)
            for stage, seconds in self._seconds.items():
                self._took(stage, seconds)
        self._span.set_attribute("frames", frames)
        self._span.end()

    def _spanned(self, stage: Stage) -> AbstractContextManager[object]:
        if stage == "track":  # entered for each frame, which is too often for spans
            return nullcontext()
        return self._tracing.below(self._span, stage, "client" if stage in ("detect", "embed") else "internal")

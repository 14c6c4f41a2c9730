"""The progress of one video: its row, the readers of its tracks, metrics and gauges are made from this one record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from motserve.pipeline.observer import PipelineStats

if TYPE_CHECKING:
    from motserve.video import VideoSource


class Progress:
    """How far the session of a video is. The session writes it, on its event loop.

    Args:
        clock: Monotonic clock in seconds.

    Attributes:
        stats: Counters that the pipeline updates.
        frames_written: Frames in the result file.
        frames_decoded: Frames decoded by this session; up to some chunks more than are tracked.
        frames_expected: Frames of the video; None if unknown.
        retries: Requests to detector and embedder that were sent again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stats = PipelineStats()
        self.frames_written = 0
        self.frames_decoded = 0
        self.frames_expected: int | None = None
        self.retries = 0
        self._clock = clock
        self._started_at = clock()
        self._source: VideoSource | None = None
        self._changed = asyncio.Condition()
        self._finished = False
        self._waiting = 0
        self._advanced: tuple[int, int, float] = (0, 0, clock())

    def open(self, source: VideoSource) -> None:
        """Begin with a video that was opened."""
        self._source = source
        self.frames_expected = source.info.frame_count

    def start(self, seconds: float) -> None:
        """Begin to measure the time.

        Args:
            seconds: Seconds of work of earlier sessions of the video.
        """
        self._started_at = self._clock() - seconds

    @property
    def seconds(self) -> float:
        """Seconds of work so far, including that of earlier sessions."""
        return self._clock() - self._started_at

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for something that has a time limit of its own; this time is no stall."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            self.advance()

    def advance(self) -> None:
        """Note progress other than decoded or written frames."""
        self._advanced = (self.frames_decoded, self.frames_written, self._clock())

    def stalled_s(self) -> float:
        """Return the seconds without progress; 0 while waiting."""
        if self._waiting or self._advanced[:2] != (self.frames_decoded, self.frames_written):
            self.advance()
        return self._clock() - self._advanced[2]

    @property
    def frames_damaged(self) -> int:
        """Damaged frames so far."""
        return 0 if self._source is None else self._source.frames_damaged

    async def add_written(self, frames: int) -> None:
        """Count frames that are in the result file now, and wake their readers."""
        self.frames_written += frames
        await self._notify()

    async def finish(self) -> None:
        """Wake all readers: the result file is complete."""
        self._finished = True
        await self._notify()

    async def wait_for_frames(self, num_frames: int) -> bool:
        """Wait until the result file is complete or has more than `num_frames` frames; return if it is complete."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._finished or self.frames_written > num_frames)
        return self._finished

    def row(self) -> dict[str, Any]:
        """Return the progress as columns of the job."""
        stats = self.stats
        return {
            "frames_done": stats.frames,
            "frames_damaged": self.frames_damaged,
            "fps": round(stats.frames / max(self.seconds, 1e-9), 2),
            "identities": stats.identities,
            "embeddings": stats.embeddings,
            "links": stats.links,
        }

    def counts(self) -> dict[str, int]:
        """Return the counts that metrics add up over all videos."""
        stats = self.stats
        return {
            "decoded": self.frames_decoded,
            "tracked": stats.frames,
            "embeddings": stats.embeddings,
            "embeddings_skipped": stats.embeddings_skipped,
            "links": stats.links,
            "retried": self.retries,
        }

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

"""Tracks a video in a thread of its own and hands the frames over in order.

The pipeline is asynchronous. Its event loop runs in that thread, so that callers need none and may have one of their
own, such as a notebook.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config, DetectorConfig
from motserve.pipeline.loop import track_frames
from motserve.pipeline.movement import MovementWatch
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import OnEmbedded
from motserve.types import Detections, FloatArray, Frame, Image, TrackedFrame
from motserve.video import VideoSource

Chunk: TypeAlias = list[tuple[TrackedFrame, Image | None]]
"""The next frames, each with its picture where pictures are kept."""

_CHUNKS_AHEAD: Final = 1
"""Chunks that wait for the consumer; one is enough that neither side waits for the other's hand-over."""

_LONGEST_WAIT_S: Final = 10.0
"""Time that a stream which was forgotten, not closed, may take to end: its batch at the detector is finished first."""


class Models(Protocol):
    """Detector and embedder of this process."""

    async def detect(self, images: list[Image]) -> list[Detections]:
        """Detect in a chunk of frames."""

    async def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed crops of people."""

    async def embed_boxes(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Embed boxes of a picture."""


class KnownDetections(Protocol):
    """Detections that need no detector: cached by an earlier run, or given by the user."""

    def take(self, indices: Sequence[int]) -> list[Detections] | None:
        """Return the detections of the next frames; None if they have to be computed."""

    def store(self, indices: Sequence[int], detections: Sequence[Detections]) -> None:
        """Store the detections of frames that `take` did not have."""


@dataclass(frozen=True, slots=True)
class _End:
    """The last item of a hand-over; its error is raised by the consumer."""

    error: BaseException | None
    is_cancelled: bool = False


class FrameStream(Iterator[Chunk]):
    """The tracked frames of an open video, chunk by chunk.

    The thread ends with the video, with `close`, or with the last reference to the stream. At most `_CHUNKS_AHEAD`
    chunks wait for the consumer, and the pipeline pauses meanwhile, so memory stays bounded.

    Args:
        source: The open video; the stream closes it.
        models: Detector and embedder.
        config: The configuration.
        stats: Counters; updated after each frame.
        on_embedded: See `track_frames`; called in the other thread.
        keep_images: Whether to hand over the pictures, each of which is kept until then.
        known: Detections that are used in place of the detector; None for none.
        watch: See `track_frames`; called in the other thread.

    Attributes:
        is_over: Whether all frames were handed over, or the stream is closed.
        is_whole: Whether all frames of the video were handed over.
    """

    def __init__(
        self,
        source: VideoSource,
        models: Models,
        config: Config,
        stats: PipelineStats,
        on_embedded: OnEmbedded | None = None,
        keep_images: bool = False,
        known: KnownDetections | None = None,
        watch: MovementWatch | None = None,
    ) -> None:
        # The thread must not refer to the stream, or the stream could never be collected.
        self._items: SimpleQueue[Chunk | _End] = SimpleQueue()
        self._room = asyncio.Semaphore(_CHUNKS_AHEAD)
        self._loop = asyncio.new_event_loop()
        detector = models if known is None else _WithKnown(models, known, config.detector)
        work = _track(source, detector, config, stats, on_embedded, keep_images, watch, self._items, self._room)
        task = self._loop.create_task(work)
        thread = threading.Thread(target=_run, args=(self._loop, task, source, self._items), name="track", daemon=True)
        self._stop = weakref.finalize(self, _stop, self._loop, task, thread, _LONGEST_WAIT_S)
        self._thread, self._task = thread, task
        self.is_over = self.is_whole = False
        try:
            thread.start()
        except BaseException:
            self._stop.detach()
            source.close()
            self._loop.close()
            raise

    def __next__(self) -> Chunk:
        if self.is_over:
            raise StopIteration
        item = self._items.get()
        if isinstance(item, _End):
            self.is_over = True
            self.is_whole = item.error is None and not item.is_cancelled
            self._items.put(_End(None, not self.is_whole))  # for other threads that wait
            self._thread.join()
            error = StopIteration() if item.error is None else item.error
            del item
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._room.release)
        return item

    def close(self) -> None:
        """Stop tracking and close the video. Calling it again does nothing."""
        self.is_over = True
        self._stop.detach()
        _stop(self._loop, self._task, self._thread, None)


class _WithKnown:
    """Models whose detector is asked only for frames without known detections."""

    def __init__(self, models: Models, known: KnownDetections, config: DetectorConfig) -> None:
        self._models, self._known, self._config = models, known, config
        self._indices: deque[int] = deque()
        self.embed, self.embed_boxes = models.embed, models.embed_boxes

    def counting(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield frames and note the indices of those to detect: `detect` gets their pictures in the same order."""
        for position, frame in enumerate(frames):
            if self._config.detects(position):
                self._indices.append(frame.index)
            yield frame

    async def detect(self, images: list[Image]) -> list[Detections]:
        """Detect in a chunk of frames."""
        indices = [self._indices.popleft() for _ in images]
        detections = self._known.take(indices)
        if detections is None:
            detections = await self._models.detect(images)
            self._known.store(indices, detections)
        return detections


async def _track(
    source: VideoSource,
    models: Models | _WithKnown,
    config: Config,
    stats: PipelineStats,
    on_embedded: OnEmbedded | None,
    keep_images: bool,
    watch: MovementWatch | None,
    items: SimpleQueue[Chunk | _End],
    room: asyncio.Semaphore,
) -> None:
    info = source.info
    images: dict[int, Image] = {}
    frames = source.frames()
    if keep_images:
        frames = _keeping(frames, images)
    if isinstance(models, _WithKnown):
        frames = models.counting(frames)
    chunks = track_frames(
        frames, models.detect, models.embed, config, stats, info.rate_hz, (info.width, info.height),
        on_embedded=on_embedded, embed_boxes=models.embed_boxes, watch=watch, keeps_pictures=keep_images,
    )  # fmt: skip
    async with aclosing(chunks):
        async for chunk in chunks:
            await room.acquire()
            items.put([(frame, images.pop(frame.index, None)) for frame in chunk])


def _keeping(frames: Iterator[Frame], images: dict[int, Image]) -> Iterator[Frame]:
    """Yield frames and keep their pictures by index."""
    for frame in frames:
        images[frame.index] = frame.image
        yield frame


def _run(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], source: VideoSource, items: SimpleQueue[Chunk | _End]
) -> None:
    """Run the loop until its task ends; the end is announced when everything is closed."""
    error: BaseException | None = None
    is_cancelled = False
    try:
        try:
            loop.run_until_complete(task)
        finally:
            source.close()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    except asyncio.CancelledError:
        is_cancelled = True
    except BaseException as caught:
        error = caught
    items.put(_End(error, is_cancelled))
    del error  # its traceback refers to this frame


def _stop(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], thread: threading.Thread, timeout: float | None
) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(task.cancel)
    if thread is not threading.current_thread() and thread.ident is not None:  # garbage is collected in any thread
        thread.join(timeout)

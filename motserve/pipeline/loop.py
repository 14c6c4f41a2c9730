"""Runs the frames of one video through detector, tracker and identity linker, several chunks at a time.

The caller decides where detector and embedder run: `detect` and `embed` are coroutines over local models or over Ray
Serve handles. The same frames get the same tracks in both.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config, PipelineConfig
from motserve.pipeline.movement import MovementWatch
from motserve.pipeline.observer import UNOBSERVED, ChunkObserver, PipelineObserver, PipelineStats
from motserve.pipeline.video_tracker import EmbedFrameBoxes, OnEmbedded, VideoTracker
from motserve.reid.crops import FrameCrops
from motserve.types import Detections, FloatArray, Frame, Image, TrackedFrame

Detect: TypeAlias = Callable[[list[Image]], Coroutine[None, None, list[Detections]]]
"""Detects objects in a chunk of frames; returns one `Detections` for each."""

Embed: TypeAlias = Callable[[NDArray[np.uint8]], Awaitable[FloatArray]]
"""Embeds `(k, height, width, 3)` crops; returns `(k, d)` unit vectors."""

EmbedBoxes: TypeAlias = Callable[[Image, FloatArray], Awaitable[FloatArray]]
"""Embeds `(k, 4)` boxes of a picture; returns `(k, d)` unit vectors."""


async def track_frames(
    frames: Iterator[Frame],
    detect: Detect,
    embed: Embed,
    config: Config,
    stats: PipelineStats,
    rate_hz: float | None = None,
    size: tuple[int, int] | None = None,
    on_embedded: OnEmbedded | None = None,
    embed_boxes: EmbedBoxes | None = None,
    observer: PipelineObserver = UNOBSERVED,
    watch: MovementWatch | None = None,
    keeps_pictures: bool = False,
) -> AsyncGenerator[list[TrackedFrame], None]:
    """Track every person through the frames of one video.

    At most `pipeline.window` chunks are at the detector at a time. Decoding, detection and tracking run at the same
    time, each on another chunk. Decoding pauses while the consumer or the detector is slow, so at most `window + 1`
    chunks are in memory.

    Args:
        frames: The decoded frames in display order; only ever advanced by one thread at a time.
        detect: Detects objects in a chunk of frames.
        embed: Embeds crops of people.
        config: The configuration; the sections `pipeline`, `tracker` and `reid` are used.
        stats: Counters; updated after each frame.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
        size: Width and height of the pictures in pixels, None where they are not known.
        on_embedded: Called with the embedded people of a frame once their identities are decided; None for no callback.
        embed_boxes: Cuts and embeds boxes in place of `embed`, for a network in this process that can do both on its
            device; None to send crops to `embed`.
        observer: Notified of each chunk of frames and its stages.
        watch: Gets each detected frame with the number of its detections; None for no watch.
        keeps_pictures: Whether the caller holds the pictures of all frames; then those of skipped frames count for
            `pipeline.max_chunk_bytes` too.

    Yields:
        The next tracked frames, in order, at least one.

    Raises:
        Exception: Errors of decoding (`InvalidVideo`), `detect` or `embed`; frames before the error are yielded first.
    """
    video_tracker = VideoTracker(config, stats, rate_hz, size, on_embedded)
    async with contextlib.aclosing(
        track_frames_with(frames, detect, embed, config, video_tracker, embed_boxes, observer, watch, keeps_pictures)
    ) as chunks:
        async for chunk in chunks:
            yield chunk


async def track_frames_with(
    frames: Iterator[Frame],
    detect: Detect,
    embed: Embed,
    config: Config,
    video_tracker: VideoTracker,
    embed_boxes: EmbedBoxes | None = None,
    observer: PipelineObserver = UNOBSERVED,
    watch: MovementWatch | None = None,
    keeps_pictures: bool = False,
) -> AsyncGenerator[list[TrackedFrame], None]:
    """Track as `track_frames` does, with a given `VideoTracker`, which may have been restored from a checkpoint.

    Whenever frames are yielded and the tracker is idle, it has processed whole chunks only.

    Args:
        frames: The decoded frames, from the first that the tracker has not processed.
        detect: Detects objects in a chunk of frames.
        embed: Embeds crops of people.
        config: The configuration; the sections `pipeline` and `reid` are used.
        video_tracker: Tracker and identity linker.
        embed_boxes: See `track_frames`.
        observer: See `track_frames`.
        watch: See `track_frames`.
        keeps_pictures: See `track_frames`.

    Yields:
        The next tracked frames, in order, at least one.

    Raises:
        Exception: Errors of decoding (`InvalidVideo`), `detect` or `embed`; frames before the error are yielded first.
    """
    positions = enumerate(frames, video_tracker.frames)
    numbered = ((frame, config.detector.detects(position)) for position, frame in positions)
    requests: asyncio.Queue[_Request | None] = asyncio.Queue()
    slots = asyncio.Semaphore(config.pipeline.window)
    decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
    decode = partial(_decode, numbered, keeps_pictures, config.pipeline.max_chunk_bytes)
    sender = asyncio.create_task(_send_chunks(decode, detect, config.pipeline, observer, decoder, slots, requests))
    request: _Request | None = None
    failure: BaseException | None = None
    try:
        while failure is None and (request := await requests.get()) is not None:
            tracked: list[TrackedFrame] = []
            try:
                answer = await request.answer
                slots.release()
                answers = iter(answer)
                for frame in request.frames:
                    if isinstance(frame, _Skipped):
                        video_tracker.skip(frame.index, frame.timestamp)
                        continue
                    detections = next(answers)
                    crops = FrameCrops(frame.image, config.reid.crop_height, config.reid.crop_width)
                    embed_frame_boxes = _embedder_of(frame.image, crops, embed, embed_boxes, request.observer)
                    get_image = partial(_image_of, frame)
                    if watch is not None:
                        watch.see(frame.index, frame.timestamp, frame.image, len(detections))
                    with request.observer.stage("track"):
                        tracked += await video_tracker.advance(
                            frame.index, frame.timestamp, detections, embed_frame_boxes, get_image, crops.select
                        )
            except Exception as error:  # raised after the frames before it are yielded
                failure = error
            request.observer.ended(len(request.frames))
            request = None
            if tracked:
                yield tracked
        if failure is None:
            await asyncio.wait({sender})
            failure = sender.exception()
        if rest := video_tracker.finish():
            yield rest
    finally:
        unanswered = [] if request is None else [request]
        await _cancel(sender)
        while not requests.empty():
            if (request := requests.get_nowait()) is not None:
                unanswered.append(request)
        await _cancel(*(request.answer for request in unanswered))
        for request in unanswered:
            request.observer.ended(len(request.frames))
        await _in_thread(decoder.shutdown)  # the source must not be closed before
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True)
class _Skipped:
    """A frame that the detector skips; its picture is not needed."""

    index: int
    timestamp: float


@dataclass(frozen=True, slots=True)
class _Request:
    """A chunk of frames at the detector, which does not get those that are skipped."""

    frames: list[Frame | _Skipped]
    answer: asyncio.Task[list[Detections]]
    observer: ChunkObserver


async def _send_chunks(
    decode: Callable[[int, ChunkObserver], tuple[list[Frame | _Skipped], bool, Exception | None]],
    detect: Detect,
    limits: PipelineConfig,
    observer: PipelineObserver,
    decoder: ThreadPoolExecutor,
    slots: asyncio.Semaphore,
    requests: asyncio.Queue[_Request | None],
) -> None:
    """Decode chunks and send them to the detector, also while earlier ones are tracked; None follows the last request.

    Chunks grow, so that the first frame need not wait for a whole chunk.

    Raises:
        Exception: An error of decoding, after the frames before it were sent.
    """
    loop = asyncio.get_running_loop()
    exhausted = False
    most = limits.first_chunk_size
    try:
        while not exhausted:
            await slots.acquire()
            chunk_observer = observer.chunk()
            most = min(most, limits.chunk_size)
            try:
                chunk, exhausted, failure = await loop.run_in_executor(decoder, decode, most, chunk_observer)
            except asyncio.CancelledError:
                chunk_observer.ended(0)
                raise
            most *= 2
            observer.decoded(len(chunk))
            if chunk:
                pictures = [frame.image for frame in chunk if isinstance(frame, Frame)]
                answer = asyncio.create_task(_detect(detect, pictures, chunk_observer))
                requests.put_nowait(_Request(chunk, answer, chunk_observer))
            if failure is not None:
                raise failure
    finally:
        requests.put_nowait(None)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


async def _in_thread(work: Callable[[], object]) -> None:
    """Do blocking work in a thread, and wait for it also if the caller is cancelled meanwhile."""
    done = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled = False
    while not done.done():
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _decode(
    frames: Iterator[tuple[Frame, bool]],
    keeps_pictures: bool,
    max_bytes: int,
    most: int,
    chunk_observer: ChunkObserver,
) -> tuple[list[Frame | _Skipped], bool, Exception | None]:
    """Decode a chunk of up to `most` frames and `max_bytes`, at least one frame unless there is none.

    Frames that the detector skips do not count, unless their pictures are kept.

    Returns:
        The frames, whether they are the last ones, and an error, which is not raised, so that the frames before it are
        tracked.
    """
    chunk: list[Frame | _Skipped] = []
    size = detected = 0
    try:
        with chunk_observer.stage("decode"):
            while detected < most:
                frame, is_detected = next(frames, (None, False))
                if frame is None:
                    return chunk, True, None
                chunk.append(frame if is_detected else _Skipped(frame.index, frame.timestamp))
                detected += is_detected
                if is_detected or keeps_pictures:
                    size += frame.image.nbytes
                    if size + frame.image.nbytes > max_bytes:
                        break
    except Exception as error:
        return chunk, True, error
    return chunk, False, None


async def _detect(detect: Detect, pictures: list[Image], chunk_observer: ChunkObserver) -> list[Detections]:
    if not pictures:
        return []
    with chunk_observer.stage("detect"):
        answer = await detect(pictures)
    if len(answer) != len(pictures):
        raise RuntimeError(f"the detector answered for {len(answer)} of {len(pictures)} pictures")
    return answer


def _image_of(frame: Frame) -> Image:
    return frame.image


def _embedder_of(
    image: Image, crops: FrameCrops, embed: Embed, embed_boxes: EmbedBoxes | None, chunk_observer: ChunkObserver
) -> EmbedFrameBoxes:
    async def embed_frame_boxes(boxes: FloatArray) -> FloatArray:
        with chunk_observer.stage("embed"):
            if embed_boxes is not None:
                return await embed_boxes(image, boxes)
            return await embed(crops.cut(boxes))

    return embed_frame_boxes

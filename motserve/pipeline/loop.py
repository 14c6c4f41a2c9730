"""The frames of one video through detector, tracker and identities, several chunks at a time.

Where detector and embedder run is the caller's matter: `detect` and `embed` are coroutines over local models or over
Ray Serve handles. The same frames therefore get the same tracks in both.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config, ReIDConfig
from motserve.pipeline.observer import UNOBSERVED, ChunkObserver, PipelineObserver
from motserve.pipeline.video_tracker import Look, OnEmbedded, PipelineStats, VideoTracker
from motserve.reid.crops import cut_crops
from motserve.types import Detections, FloatArray, Frame, Image, TrackedFrame

Detect: TypeAlias = Callable[[list[Image]], Coroutine[None, None, list[Detections]]]
"""Detects in a chunk of frames; answers one `Detections` for each."""

Embed: TypeAlias = Callable[[NDArray[np.uint8]], Awaitable[FloatArray]]
"""Embeds `(k, height, width, 3)` crops; answers `(k, d)` unit vectors."""

EmbedBoxes: TypeAlias = Callable[[Image, FloatArray], Awaitable[FloatArray]]
"""Embeds what is in `(k, 4)` boxes of a picture; answers `(k, d)` unit vectors."""


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
) -> AsyncGenerator[list[TrackedFrame], None]:
    """Track every person through the frames of one video.

    At most `pipeline.window` chunks are at the detector at a time. Decoding goes on, in a thread, while they are, and
    stops while the consumer or the detector is slow, so memory stays bounded.

    Args:
        frames: The decoded frames in display order; only ever advanced by one thread at a time.
        detect: Detects in a chunk of frames.
        embed: Embeds crops of people.
        config: The configuration; the sections `pipeline`, `tracker` and `reid` are used.
        stats: Counters that are kept up to date.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
        size: Width and height of the pictures in pixels, None where they are not known.
        on_embedded: Told of everybody who was embedded, once it is known who that is; None for nobody to tell.
        embed_boxes: Cuts people out and embeds them in place of `embed`, where the network is in this process and may
            do both on its device; None where crops travel to it.
        observer: Told of each chunk of frames and how long its stages take.

    Yields:
        The next tracked frames, in order, at least one.

    Raises:
        Exception: Whatever decoding (`InvalidVideo`), `detect` or `embed` raise; the frames before were yielded.
    """
    video_tracker = VideoTracker(config, stats, rate_hz, size, on_embedded)
    async with contextlib.aclosing(
        track_frames_with(frames, detect, embed, config, video_tracker, embed_boxes, observer)
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
) -> AsyncGenerator[list[TrackedFrame], None]:
    """Track as `track_frames` does, with a video_tracker of one's own, which may go on from where another one was.

    Whenever frames are yielded, the video_tracker has seen whole chunks only, unless it is not at rest.

    Args:
        frames: The decoded frames, from the first that the video_tracker has not seen.
        detect: Detects in a chunk of frames.
        embed: Embeds crops of people.
        config: The configuration; the sections `pipeline` and `reid` are used.
        video_tracker: Tracker and identities.
        embed_boxes: See `track_frames`.
        observer: See `track_frames`.

    Yields:
        The next tracked frames, in order, at least one.

    Raises:
        Exception: Whatever decoding (`InvalidVideo`), `detect` or `embed` raise; the frames before were yielded.
    """
    in_flight: deque[tuple[list[Frame], asyncio.Task[list[Detections]], ChunkObserver]] = deque()
    failure: Exception | None = None
    exhausted = False
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as decoder:
        try:
            while True:
                while not exhausted and len(in_flight) < config.pipeline.window:
                    part = observer.chunk()
                    wanted = config.pipeline.chunk_size
                    chunk, failure = await loop.run_in_executor(decoder, _take, frames, wanted, part)
                    exhausted = len(chunk) < wanted
                    observer.decoded(len(chunk))
                    if chunk:
                        request = asyncio.create_task(_detect(detect, chunk, part))
                        in_flight.append((chunk, request, part))
                if not in_flight:
                    break
                chunk, request, part = in_flight.popleft()
                tracked: list[TrackedFrame] = []
                broken = False
                try:
                    for frame, found in zip(chunk, await request, strict=True):
                        look = _look_at(frame.image, embed, embed_boxes, config.reid, part)
                        picture = partial(_image_of, frame)
                        with part.stage("track"):
                            tracked += await video_tracker.advance(frame.index, frame.timestamp, found, look, picture)
                except Exception as error:  # raised once the frames before are out
                    failure, broken = error, True
                part.ended(len(chunk))
                if tracked:
                    yield tracked
                if broken:
                    break
            if rest := video_tracker.finish():
                yield rest
        finally:
            for _, request, _ in in_flight:
                request.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*(request for _, request, _ in in_flight), return_exceptions=True)
            for chunk, _, part in in_flight:
                part.ended(len(chunk))
    if failure is not None:
        raise failure


def _take(frames: Iterator[Frame], count: int, part: ChunkObserver) -> tuple[list[Frame], Exception | None]:
    """Decode up to `count` frames; what stops decoding is kept until the frames before it are tracked."""
    chunk: list[Frame] = []
    try:
        with part.stage("decode"):
            for frame in islice(frames, count):
                chunk.append(frame)  # noqa: PERF402  # each frame must be kept before the next may fail
    except Exception as error:
        return chunk, error
    return chunk, None


async def _detect(detect: Detect, chunk: list[Frame], part: ChunkObserver) -> list[Detections]:
    with part.stage("detect"):
        return await detect([frame.image for frame in chunk])


def _image_of(frame: Frame) -> Image:
    return frame.image


def _look_at(
    image: Image, embed: Embed, embed_boxes: EmbedBoxes | None, config: ReIDConfig, part: ChunkObserver
) -> Look:
    async def look(boxes: FloatArray) -> FloatArray:
        with part.stage("embed"):
            if embed_boxes is not None:
                return await embed_boxes(image, boxes)
            return await embed(cut_crops(image, boxes, config.crop_height, config.crop_width))

    return look

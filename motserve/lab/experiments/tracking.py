"""Runs a tracker over the detections of a sequence, as the pipeline does, and times it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from motserve.config import BotSortConfig, Config
from motserve.errors import InvalidConfig
from motserve.lab.benchmark.peers import Contender
from motserve.lab.experiments.appearance import Appearance
from motserve.lab.experiments.detections import DetectedVideo
from motserve.lab.experiments.footage import Footage
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import EmbedFrameBoxes, GetImage, OnEmbedded, VideoTracker
from motserve.types import FloatArray, Image, TrackedFrame


@dataclass(frozen=True, slots=True)
class TrackedVideo:
    """The tracks of one sequence and their cost.

    Attributes:
        frames: The tracks of every frame.
        milliseconds: `(n,)` float64, time of each detected frame in milliseconds, without detection and embedding.
        embeddings: Number of embeddings.
    """

    frames: list[TrackedFrame]
    milliseconds: NDArray[np.float64]
    embeddings: int = 0


def track_detections(
    video: DetectedVideo,
    config: Config,
    appearance: Appearance | None = None,
    footage: Footage | None = None,
    clock: Callable[[], float] = time.perf_counter,
    on_embedded: OnEmbedded | None = None,
) -> TrackedVideo:
    """Track a sequence with the configured tracker and, unless `reid.policy` is `off`, identities.

    Args:
        video: The detections.
        config: The configuration.
        appearance: The embeddings; required if the configuration uses embeddings.
        footage: The video; required if camera motion is estimated.
        clock: Monotonic clock in seconds.
        on_embedded: Called with the embeddings of each frame; None to discard them.

    Returns:
        The tracks, equal to those of `motserve track` for the same detections.

    Raises:
        InvalidConfig: Embeddings or frames are required and there is no video.
    """
    optional = isinstance(config.tracker, BotSortConfig)
    appearance_off = "set tracker.appearance=null" if optional else "choose another tracker"
    for missing, key, remedy in (
        (
            appearance is None and config.reid.policy != "off",
            f"reid.policy is {config.reid.policy}",
            "set reid.policy=off",
        ),
        (appearance is None and config.needs_embeddings, f"{config.tracker.name} uses embeddings", appearance_off),
        (footage is None and config.camera is not None, "tracker.camera is set", "set tracker.camera=null"),
    ):
        if missing:
            raise InvalidConfig(f"{video.name}: {key}, but there is no video; give --videos or {remedy}")
    size = footage.size if footage is not None and appearance is not None else None
    stats = PipelineStats()
    video_tracker = VideoTracker(config, stats, video.rate_hz, size, on_embedded)
    watch = _Stopwatch(clock)

    async def run() -> TrackedVideo:
        frames: list[TrackedFrame] = []
        seconds: list[float] = []
        for index, (detections, timestamp) in enumerate(zip(video.detections, video.timestamps.tolist(), strict=True)):
            if not config.detector.detects(index):
                video_tracker.skip(index, timestamp)
                continue
            embed = watch.around(appearance.at(video.frame_of(index))) if appearance else _no_embeddings
            before, start = watch.seconds, clock()
            picture = watch.around_picture(partial(_picture, footage, video.frame_of(index)))
            frames += await video_tracker.advance(index, timestamp, detections, embed, picture)
            seconds.append(clock() - start - (watch.seconds - before))
        frames += video_tracker.finish()
        return TrackedVideo(frames, np.array(seconds) * 1e3, stats.embeddings)

    return asyncio.run(run())


def track_with(
    video: DetectedVideo, contender: Contender, clock: Callable[[], float] = time.perf_counter
) -> TrackedVideo:
    """Track a sequence with any tracker; each of its tracks is an identity.

    Args:
        video: The detections.
        contender: A new tracker. Conversion of its input and output is not timed.
        clock: Monotonic clock in seconds.
    """
    frames: list[TrackedFrame] = []
    seconds = np.empty(len(video))
    for index, (detections, timestamp) in enumerate(zip(video.detections, video.timestamps.tolist(), strict=True)):
        step = contender.prepare(detections, timestamp)
        start = clock()
        output = step()
        seconds[index] = clock() - start
        tracks = contender.read(output)
        frames.append(TrackedFrame(index, timestamp, tracks, tracks.ids))
    return TrackedVideo(frames, seconds * 1e3)


def _picture(footage: Footage | None, index: int) -> Image:
    if footage is None:
        raise RuntimeError("a frame is requested although camera motion is not estimated")
    return footage.image(index)


class _Stopwatch:
    """Seconds spent on embedding and decoding, to subtract from the tracker's time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0

    def around(self, embed: EmbedFrameBoxes) -> EmbedFrameBoxes:
        async def timed(boxes: FloatArray) -> FloatArray:
            start = self._clock()
            embeddings = await embed(boxes)
            self.seconds += self._clock() - start
            return embeddings

        return timed

    def around_picture(self, picture: GetImage) -> GetImage:
        def timed() -> Image:
            start = self._clock()
            image = picture()
            self.seconds += self._clock() - start
            return image

        return timed


async def _no_embeddings(_: FloatArray) -> FloatArray:
    raise RuntimeError("an embedding is requested although the configuration uses none")

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
from motserve.pipeline import EmbedFrameBoxes, GetImage, OnEmbedded, PipelineStats, VideoTracker
from motserve.types import FloatArray, Image, TrackedFrame


@dataclass(frozen=True, slots=True)
class TrackedVideo:
    """The tracks of one sequence and what they cost.

    Attributes:
        frames: The tracks of every frame.
        milliseconds: `(n,)` float64, time of each frame in milliseconds, detection and embedding apart.
        embeddings: Embeddings that were asked for.
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
        video: What was seen.
        config: The configuration.
        appearance: What people look like; needed where embeddings are.
        footage: The pictures; needed where the camera's motion is estimated.
        clock: Monotonic clock in seconds.
        on_embedded: Told of everybody who was embedded; None for nobody to tell.

    Returns:
        The tracks that `motserve track` gives for the same detections.

    Raises:
        InvalidConfig: Appearance or pictures are needed and there are none.
    """
    optional = isinstance(config.tracker, BotSortConfig)
    appearance_off = "set tracker.appearance=null" if optional else "choose another tracker"
    for missing, key, way_out in (
        (
            appearance is None and config.reid.policy != "off",
            f"reid.policy is {config.reid.policy}",
            "set reid.policy=off",
        ),
        (appearance is None and config.needs_embeddings, f"{config.tracker.name} goes by appearance", appearance_off),
        (footage is None and config.camera is not None, "tracker.camera is set", "set tracker.camera=null"),
    ):
        if missing:
            raise InvalidConfig(f"{video.name}: {key}, and there is no video to look at; give --videos or {way_out}")
    size = footage.size if footage is not None and appearance is not None else None
    stats = PipelineStats()
    video_tracker = VideoTracker(config, stats, video.rate_hz, size, on_embedded)
    watch = _Stopwatch(clock)

    async def run() -> TrackedVideo:
        frames: list[TrackedFrame] = []
        seconds = np.empty(len(video))
        for index, (detections, timestamp) in enumerate(zip(video.detections, video.timestamps.tolist(), strict=True)):
            look = watch.around(appearance.at(video.frame_of(index))) if appearance else _blind
            before, start = watch.seconds, clock()
            picture = watch.around_picture(partial(_picture, footage, video.frame_of(index)))
            frames += await video_tracker.advance(index, timestamp, detections, look, picture)
            seconds[index] = clock() - start - (watch.seconds - before)
        frames += video_tracker.finish()
        return TrackedVideo(frames, seconds * 1e3, stats.embeddings)

    return asyncio.run(run())


def track_with(
    video: DetectedVideo, contender: Contender, clock: Callable[[], float] = time.perf_counter
) -> TrackedVideo:
    """Track a sequence with any tracker; each of its tracks is an identity.

    Args:
        video: What was seen.
        contender: A fresh tracker. Making its input and reading its answer does not count as its time.
        clock: Monotonic clock in seconds.
    """
    frames: list[TrackedFrame] = []
    seconds = np.empty(len(video))
    for index, (detections, timestamp) in enumerate(zip(video.detections, video.timestamps.tolist(), strict=True)):
        step = contender.prepare(detections, timestamp)
        start = clock()
        answer = step()
        seconds[index] = clock() - start
        tracks = contender.read(answer)
        frames.append(TrackedFrame(index, timestamp, tracks, tracks.ids))
    return TrackedVideo(frames, seconds * 1e3)


def _picture(footage: Footage | None, index: int) -> Image:
    if footage is None:
        raise RuntimeError("the camera's motion is not estimated, no picture is asked for")
    return footage.image(index)


class _Stopwatch:
    """Seconds that went into embedding and decoding, which are not the tracker's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0

    def around(self, look: EmbedFrameBoxes) -> EmbedFrameBoxes:
        async def timed(boxes: FloatArray) -> FloatArray:
            start = self._clock()
            embeddings = await look(boxes)
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


async def _blind(_: FloatArray) -> FloatArray:
    raise RuntimeError("nobody's appearance is asked for")

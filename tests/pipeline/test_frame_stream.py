"""The thread that tracks ahead of its consumer: bounded, and gone when the consumer is."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from motserve.config import load_config
from motserve.errors import InvalidVideo
from motserve.pipeline.frame_stream import FrameStream
from motserve.pipeline.observer import PipelineStats
from motserve.types import Detections, FloatArray, Frame, Image
from motserve.video import VideoInfo, VideoSource

CHUNK, WINDOW = 4, 2
CONFIG = load_config(
    {"pipeline": {"first_chunk_size": CHUNK, "chunk_size": CHUNK, "window": WINDOW}, "reid": {"policy": "off"}}
)


class Pictures(VideoSource):
    """A source of endless pictures, or of some that end with an error."""

    def __init__(self, count: int | None = None, error: Exception | None = None) -> None:
        self.decoded, self.closed = 0, False
        self._count, self._error = count, error

    @property
    def info(self) -> VideoInfo:
        return VideoInfo(8, 8, 10.0, None, None, "none")

    def frames(self, start: int = 0) -> Iterator[Frame]:
        while self._count is None or self.decoded < self._count:
            yield Frame(self.decoded, self.decoded / 10, np.full((8, 8, 3), self.decoded % 256, np.uint8))
            self.decoded += 1
        if self._error is not None:
            raise self._error

    def check_complete(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


class NoOne:
    """Models that find no one."""

    async def detect(self, images: list[Image]) -> list[Detections]:
        return [Detections.empty() for _ in images]

    async def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        raise NotImplementedError

    async def embed_boxes(self, image: Image, boxes: FloatArray) -> FloatArray:
        raise NotImplementedError


def stream_of(source: Pictures, keep_images: bool = False) -> FrameStream:
    return FrameStream(source, NoOne(), CONFIG, PipelineStats(), keep_images=keep_images)


def working() -> list[str]:
    """Threads of streams; those of the executors end by themselves."""
    return [thread.name for thread in threading.enumerate() if thread.name == "track"]


def test_the_pipeline_waits_for_a_slow_consumer() -> None:
    source = Pictures()
    stream = stream_of(source, keep_images=True)
    most = (WINDOW + 3) * CHUNK  # at the detector, being tracked, waiting, being consumed
    for taken in range(1, 50):
        chunk = next(stream)
        assert [frame.index for frame, _ in chunk] == list(range((taken - 1) * CHUNK, taken * CHUNK))
        for frame, image in chunk:
            assert image is not None
            assert image[0, 0, 0] == frame.index % 256
        assert source.decoded - (taken - 1) * CHUNK <= most
    stream.close()
    stream.close()
    assert (source.closed, working(), list(stream)) == (True, [], [])


def test_pictures_are_not_kept_where_no_one_asks_for_them() -> None:
    assert all(image is None for chunk in stream_of(Pictures(10)) for _, image in chunk)


def test_a_stream_without_references_ends() -> None:
    source = Pictures()
    stream = stream_of(source)
    next(stream)
    del stream
    gc.collect()
    assert (source.closed, working()) == (True, [])


def test_an_error_comes_after_the_frames_before_it_and_only_once() -> None:
    source = Pictures(6, InvalidVideo("cut off"))
    stream = stream_of(source)
    assert [len(next(stream)), len(next(stream))] == [4, 2]
    with pytest.raises(InvalidVideo, match="cut off"):
        next(stream)
    assert (source.closed, working(), list(stream)) == (True, [], [])


def test_a_stream_that_is_closed_in_another_thread_ends_for_its_consumer() -> None:
    stream = stream_of(Pictures())
    closer = threading.Thread(target=stream.close)
    closer.start()
    assert sum(1 for _ in stream) >= 0  # it ends, wherever it was
    closer.join()
    assert working() == []

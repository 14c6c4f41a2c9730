"""Decodes a video file with FFmpeg through PyAV: real timestamps, upright BGR frames, broken files refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from itertools import chain
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.types import Frame, Image
from motserve.video.base import VideoInfo, VideoSource
from motserve.video.clock import FrameClock
from motserve.video.completeness import fragment_is_cut_off, is_cut_off
from motserve.video.container import duration_s, open_container, pick_stream, read_declared, refuse_size
from motserve.video.decoder import PacketDecoder, PacketReader
from motserve.video.orientation import Orientation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger("motserve.video")

# Containers whose header states how long the whole file should be.
_DECLARE_DURATION = ("matroska", "avi", "flv", "asf", "ivf", "mxf")
# By how much a header may differ from a whole file before it is worth a warning; muxers round in many ways.
_INEXACT_S, _INEXACT_SHARE = 0.5, 0.02
_INEXACT_FRAMES = 2  # the same of a file that ends inside an element: it may have lost its index alone
_LARGEST_NAMED = 1 << 26  # pixels; to find out the size of a picture, some decoders decode it
_FALLBACK_RATE_HZ = 25.0  # only spaces frames without any timestamp in a file without any rate


class VideoFile(VideoSource):
    """A video file, decoded on several threads in one pass.

    The rotation stored in the file is applied. If the frame size changes within the video, later frames are scaled to
    the size of the first, so that all boxes of the video share one coordinate system. Samples that cannot be decoded
    are skipped and counted, up to a configured share.

    Args:
        path: The file.
        config: Limits.
        name: Name of the video in messages.

    Raises:
        InvalidVideo: The file is not a video, has no frame, is cut off or exceeds a limit.
    """

    def __init__(self, path: Path, config: VideoConfig, name: str) -> None:
        self._path = path
        self._config = config
        self._name = name
        self._is_read = False
        self._reformatter = VideoReformatter()
        self._packets: Iterator[Packet[VideoStream]] = iter(())
        self._pictures: Iterator[VideoFrame] = iter(())
        self._containers = [open_container(path, config, name)]
        try:
            container = self._containers[0]
            self._stream = pick_stream(container, config, name)
            self._declared = read_declared(container, self._stream)
            self._refuse_count(self._declared.samples)
            starts_with_key = self._declared.starts_with_key
            self._reader = PacketReader(container, self._stream)
            self._packets = self._reader.read()
            self._decoder = PacketDecoder(
                self._stream.codec_context, partial(_open_again, self._containers, path, config, name), starts_with_key
            )
            self._pictures = self._decode()
            first = next(self._pictures, None)
            if first is None:
                if self._decoder.out_of_memory:
                    raise InvalidVideo(
                        f"{name}: its frames need more memory than the process may use; the limit of the service is "
                        "serving.probe.memory_bytes"
                    )
                raise InvalidVideo(
                    f"{name} has no frame that can be decoded, or only frames beyond {config.max_pixels} pixels "
                    "(video.max_pixels)"
                )
            self._first: VideoFrame | None = first
            self._size = first.width, first.height
            self._orientation = Orientation.of(first)
            self._info = self._describe()
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> VideoInfo:
        """Size, rate and length of the video."""
        return self._info

    @property
    def frames_damaged(self) -> int:
        """See `VideoSource.frames_damaged`."""
        return self._lost + self._decoder.damaged

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Iterate over the frames, once; see `VideoSource.frames`."""
        pictures = chain((self._claim(),), self._pictures)
        return self._walk(pictures, start)

    def check_complete(self) -> None:
        """Read to the end of the file without decoding; see `VideoSource.check_complete`."""
        self._claim()
        try:
            for _ in self._packets:
                pass
        except av.FFmpegError as error:
            raise self._broken(error) from error
        self._refuse_truncated()

    def close(self) -> None:
        """Close the file."""
        self._first = None
        self._packets, self._pictures = iter(()), iter(())  # they refer to this object, and their decoder to frames
        for container in self._containers:
            container.close()

    def _claim(self) -> VideoFrame:
        """Return the first frame, once."""
        first, self._first = self._first, None
        if first is None:
            raise RuntimeError(f"{self._name} can be read only once; open it again")
        return first

    def _walk(self, pictures: Iterator[VideoFrame], start: int) -> Iterator[Frame]:
        clock = FrameClock(
            1 / (self._info.rate_hz or _FALLBACK_RATE_HZ),
            self._config.max_clock_jump_s if self._declared.clock_restarts else inf,
            self._declared.presentation_stored,
        )
        for index, picture in enumerate(pictures):
            timestamp = clock.stamp(self._seconds(picture.pts), self._seconds(picture.dts))
            if index >= start:
                yield Frame(index, timestamp, self._image(picture))
        if clock.repaired or self.frames_damaged:
            logger.warning(
                "%s: repaired timestamps: %d, of them restarts of the clock: %d; damaged frames: %d",
                self._name,
                clock.repaired,
                clock.restarts,
                self.frames_damaged,
            )

    def _seconds(self, ticks: int | None) -> float | None:
        base = self._stream.time_base
        return None if ticks is None or not base else float(ticks * base)

    def _image(self, picture: VideoFrame) -> Image:
        width, height = self._size
        try:
            # One thread: the decoder uses the cores, and splitting a frame costs more than it gains.
            bgr = self._reformatter.reformat(picture, width, height, "bgr24", threads=1).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise InvalidVideo(
                f"{self._name}: the pixel format {picture.format.name} cannot be converted: {error}"
            ) from error
        return self._orientation.apply(np.ascontiguousarray(bgr, np.uint8))

    def _decode(self) -> Iterator[VideoFrame]:
        try:
            for picture in self._decoder.decode(self._packets):
                refuse_size(picture.width, picture.height, self._config, self._name)
                self._refuse_count(self._decoder.decoded)
                yield picture
        except av.FFmpegError as error:
            raise self._broken(error) from error
        if self._reader.is_partial:
            logger.warning("%s has a stream that begins late, perhaps of another recording; it is not read", self._name)
        self._refuse_truncated()
        self._is_read = True
        self._refuse_damage()

    def _broken(self, error: av.FFmpegError) -> InvalidVideo:
        return InvalidVideo(
            f"{self._name} is broken or cut off: reading failed after {self._decoder.decoded} frames ({error.strerror})"
        )

    def _refuse_truncated(self) -> None:
        container = self._containers[0]
        form = container.format.name
        expected = self._declared.samples
        if form.startswith("mov"):
            self._refuse_truncated_mp4(expected)
        if not form.startswith(_DECLARE_DURATION):
            return
        length = self._length_s()
        if length is None:
            # FFmpeg gives no length for an ASF file that is smaller than its header declares.
            if form.startswith("asf") and is_cut_off(self._path, form):
                raise InvalidVideo(
                    f"{self._name} is cut off: its header declares more bytes than it has, and it ends after "
                    f"{self._decoder.decoded} frames"
                )
            return
        reached = self._reader.reached_s
        interval = 1 / float(self._stream.average_rate or _FALLBACK_RATE_HZ)
        missing = length - reached
        if missing <= _INEXACT_FRAMES * interval or self._reader.packets < expected:
            return
        ends = f"it declares {length:.1f} s and ends after {reached:.1f} s, {self._decoder.decoded} frames"
        if is_cut_off(self._path, form):
            raise InvalidVideo(f"{self._name} is cut off: {ends}")
        if missing > max(_INEXACT_S, _INEXACT_SHARE * length):
            logger.warning("%s is complete, but its header is wrong: %s", self._name, ends)

    def _refuse_truncated_mp4(self, expected: int) -> None:
        decoded = self._decoder.decoded
        if self._reader.packets < expected:
            raise InvalidVideo(
                f"{self._name} is cut off: it declares {expected} frames and ends after {decoded} frames"
            )
        if fragment_is_cut_off(self._path):
            raise InvalidVideo(f"{self._name} is cut off: it ends inside a fragment, after {decoded} frames")

    def _length_s(self) -> float | None:
        length = duration_s(self._containers[0])
        rate = self._stream.average_rate
        if self._containers[0].format.name == "avi" and rate:
            # without its index, FFmpeg guesses the length from the file size
            length = max(length or 0.0, float(self._stream.frames / rate))
        return length

    @property
    def _lost(self) -> int:
        """Samples that were not decoded, and those that the index lists and reading has passed over."""
        return self._decoder.lost + (max(0, self._declared.samples - self._reader.packets) if self._is_read else 0)

    def _refuse_damage(self) -> None:
        lost, total = self._lost, self._lost + self._decoder.decoded
        if lost <= self._config.max_damaged_share * total:
            return
        refuse_size(*self._decoder.largest_size(_LARGEST_NAMED), self._config, self._name)
        if self._decoder.decoded:
            raise InvalidVideo(
                f"{self._name} is damaged: {lost} of {total} frames cannot be decoded, more than the accepted share of "
                f"{self._config.max_damaged_share} (video.max_damaged_share)"
            )

    def _refuse_count(self, frames: int) -> None:
        if frames > self._config.max_frames:
            raise InvalidVideo(
                f"{self._name} has more than {self._config.max_frames} frames, the limit (video.max_frames)"
            )

    def _describe(self) -> VideoInfo:
        declared = self._declared
        width, height = self._orientation.size(*self._size)
        aspect = 1 / declared.pixel_aspect if self._orientation.swap else declared.pixel_aspect
        return VideoInfo(
            width,
            height,
            declared.rate_hz,
            declared.frame_count,
            declared.duration_s,
            self._stream.codec_context.name,
            float(aspect),
        )


def _open_again(containers: list[InputContainer], path: Path, config: VideoConfig, name: str) -> VideoCodecContext:
    """Open a file once more, for a decoder that reports at once which sample is damaged.

    This is no method: a decoder that refers to its file would stay in memory with all its frames until Python searches
    for cycles.
    """
    container = open_container(path, config, name)
    containers.append(container)
    stream = pick_stream(container, config, name)
    stream.thread_type, stream.thread_count = "NONE", 1
    return stream.codec_context

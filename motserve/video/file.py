"""Decodes a video file with FFmpeg through PyAV: real timestamps, upright BGR frames, broken files told apart."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo
from motserve.types import Frame, Image
from motserve.video.base import VideoInfo, VideoSource
from motserve.video.clock import FrameClock
from motserve.video.orientation import Orientation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger("motserve.video")

# Containers of moving pictures. FFmpeg also opens playlists, which pull in other files and addresses, and turns any
# text into a film of letters; an upload must do neither.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,gif,apng,ivf,h264,hevc,av1,obu,m4v,mpegvideo,mjpeg,"
    "yuv4mpegpipe,dv,rm,3gp,wtv,gxf"
)
# Containers whose header states how long the whole file should be.
_DECLARE_DURATION = ("matroska", "avi", "flv", "asf", "nut")
# A file that ends earlier than its header says by more than this is cut off; muxers round the last frame in many ways.
_MISSING_S, _MISSING_SHARE = 0.5, 0.02
_FALLBACK_RATE_HZ = 25.0  # only spaces frames without any timestamp in a file without any rate


class VideoFile(VideoSource):
    """A video file, decoded on several threads in one pass.

    The rotation that a camera notes in the file is applied. If the size of the picture changes on the way, later
    frames are scaled to the size of the first, so that all boxes of the video share one coordinate system.

    Args:
        path: The file.
        config: Limits.
        name: What messages call it.

    Raises:
        InvalidVideo: The file is no video, has no frame, is cut off or exceeds a limit.
    """

    def __init__(self, path: Path, config: VideoConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._reformatter = VideoReformatter()
        self._decoded = 0
        self._container = _open(path, name)
        try:
            self._stream = self._pick_stream()
            self._packets = self._read()
            self._pictures = self._decode()
            first = next(self._pictures, None)
            if first is None:
                raise InvalidVideo(f"{name} holds no frame that can be decoded")
            self._first: VideoFrame | None = first
            self._size = first.width, first.height
            self._orientation = Orientation.of(first)
            self._info = self._describe()
        except BaseException:
            self._container.close()
            raise

    @property
    def info(self) -> VideoInfo:
        """Size, rate and length of the video."""
        return self._info

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Walk through the frames, once; see `VideoSource.frames`."""
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

    def close(self) -> None:
        """Close the file."""
        self._first = None
        self._container.close()

    def _claim(self) -> VideoFrame:
        """Hand out the first picture, once."""
        first, self._first = self._first, None
        if first is None:
            raise RuntimeError(f"{self._name} can be walked through once; open it again")
        return first

    def _walk(self, pictures: Iterator[VideoFrame], start: int) -> Iterator[Frame]:
        clock = FrameClock(1 / (self._info.rate_hz or _FALLBACK_RATE_HZ))
        damaged = 0
        for index, picture in enumerate(pictures):
            timestamp = clock.stamp(_seconds(picture, picture.pts), _seconds(picture, picture.dts))
            damaged += picture.is_corrupt
            if index >= start:
                yield Frame(index, timestamp, self._image(picture))
        if clock.repaired or damaged:
            logger.warning(
                "%s: %d timestamps repaired, %d frames decoded with damage", self._name, clock.repaired, damaged
            )

    def _image(self, picture: VideoFrame) -> Image:
        width, height = self._size
        try:
            # One thread: the decoder's threads keep the cores busy; splitting a picture costs more than it gains.
            bgr = self._reformatter.reformat(picture, width, height, "bgr24", threads=1).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise InvalidVideo(
                f"{self._name}: the pixel format {picture.format.name} cannot be converted: {error}"
            ) from error
        return self._orientation.apply(np.ascontiguousarray(bgr, np.uint8))

    def _pick_stream(self) -> VideoStream:
        # A cover picture of a song is a video stream too, and some cameras add a small preview beside the film.
        films = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not films:
            held = " and ".join(sorted({str(s.type) for s in self._container.streams})) or "nothing"
            raise InvalidVideo(f"{self._name} holds no moving pictures, only {held}")
        stream = max(films, key=lambda s: s.width * s.height if _has_decoder(s) else -1)
        if not _has_decoder(stream):
            raise InvalidVideo(f"{self._name}: there is no decoder for its video codec; convert it to H.264")
        self._refuse_size(stream.width, stream.height)
        # An MP4's index lists every packet that must come, after the edits that its edit list describes.
        self._expected = len(stream.index_entries) if self._container.format.name.startswith("mov") else 0
        self._refuse_count(self._expected)
        stream.thread_type = "AUTO"
        # The decoder refuses before it allocates. It counts pixels with padding, hence the room.
        stream.codec_context.options = {"max_pixels": str(2 * self._config.max_pixels)}
        return stream

    def _read(self) -> Iterator[Packet[VideoStream]]:
        """Yield the stream's packets; the end of the file is the time to see whether all came."""
        packets, reached = 0, 0.0
        for packet in self._container.demux():
            last = packet.pts if packet.pts is not None else packet.dts
            if last is not None and packet.time_base:
                reached = max(reached, float((last + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == self._stream.index:
                packets += packet.size > 0 or last is not None
                yield cast("Packet[VideoStream]", packet)
        self._refuse_truncated(packets, reached)

    def _decode(self) -> Iterator[VideoFrame]:
        key_seen = False
        try:
            for packet in self._packets:
                key_seen |= packet.is_keyframe
                try:
                    pictures = packet.decode()
                except av.FFmpegError:
                    # A recording cut out of a broadcast begins between two key frames; those packets decode to nothing.
                    if key_seen:
                        raise
                    continue
                for picture in pictures:
                    self._refuse_size(picture.width, picture.height)
                    self._refuse_count(self._decoded + 1)
                    self._decoded += 1
                    yield picture
        except av.FFmpegError as error:
            raise self._broken(error) from error

    def _broken(self, error: av.FFmpegError) -> InvalidVideo:
        return InvalidVideo(
            f"{self._name} is broken or cut off: decoding failed after {self._decoded} frames ({error.strerror})"
        )

    def _refuse_truncated(self, packets: int, reached: float) -> None:
        if packets < self._expected:
            raise InvalidVideo(
                f"{self._name} is cut off: it declares {self._expected} frames and ends after {self._decoded} frames"
            )
        declared = _duration_s(self._container)
        if declared is None or not self._container.format.name.startswith(_DECLARE_DURATION):
            return
        interval = 1 / float(self._stream.average_rate or _FALLBACK_RATE_HZ)
        if declared - reached > max(_MISSING_S, _MISSING_SHARE * declared, 2 * interval):
            raise InvalidVideo(
                f"{self._name} is cut off: it declares {declared:.1f} s and ends after {reached:.1f} s, "
                f"{self._decoded} frames"
            )

    def _refuse_size(self, width: int, height: int) -> None:
        if width * height > self._config.max_pixels:
            raise InvalidVideo(
                f"{self._name}: frames of {width}x{height} exceed the limit of {self._config.max_pixels} pixels "
                "(video.max_pixels)"
            )

    def _refuse_count(self, frames: int) -> None:
        if frames > self._config.max_frames:
            raise InvalidVideo(
                f"{self._name} has more than {self._config.max_frames} frames, the limit (video.max_frames)"
            )

    def _describe(self) -> VideoInfo:
        stream = self._stream
        rate = float(stream.average_rate or stream.guessed_rate or 0) or None
        duration = (
            float(stream.duration * stream.time_base)
            if stream.duration and stream.time_base
            else _duration_s(self._container)
        )
        count = round(duration * rate) if duration and rate else stream.frames
        width, height = self._orientation.size(*self._size)
        return VideoInfo(width, height, rate, count or None, duration, stream.codec_context.name)


def _open(path: Path, name: str) -> InputContainer:
    try:
        # The prefix keeps a file called `http:x` or `concat:x` a file.
        return av.open(
            f"file:{path.absolute()}",
            mode="r",
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, ValueError):
            raise InvalidVideo(f"{name} cannot be read: {error.strerror}") from error
        with path.open("rb") as file:
            head = file.read(12)
        if not head:
            reason = f"{name} is empty"
        elif head[4:8] == b"ftyp":
            reason = f"{name} is an MP4 file without a readable index: it was cut off, damaged or never finished"
        else:
            reason = f"{name} is not a video in a container that is known here"
        raise InvalidVideo(reason) from error


def _has_decoder(stream: VideoStream) -> bool:
    return cast("object", stream.codec_context) is not None


def _duration_s(container: InputContainer) -> float | None:
    return container.duration / av.time_base if container.duration else None


def _seconds(picture: VideoFrame, ticks: int | None) -> float | None:
    return None if ticks is None or not picture.time_base else float(ticks * picture.time_base)

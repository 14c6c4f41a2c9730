"""Writes video that all browsers play: H.264 in MP4, 4:2:0, index at the beginning, real timestamps."""

from __future__ import annotations

import secrets
from fractions import Fraction
from math import inf, isfinite
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import cv2
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from motserve.config import VideoConfig
from motserve.types import Image

_CLOCKS = (90_000, 1000, 1)
"""Ticks per second, the finest possible one is used; 24, 25, 29.97, 30 and 60 Hz are whole ticks of the first."""
_MOST_TICKS = 2**30  # of one frame; MP4 has 32 bits for it, and readers take the highest as a sign
_ROOM = 8  # nominal intervals that a frame must be able to last with the chosen clock
_MOST_REPEATS = 100  # of a frame that lasts longer than MP4 allows: 14 days with the finest clock
_FALLBACK_RATE_HZ = 30.0  # only a hint for the encoder; timestamps are exact
_BT709 = 1  # the number of ITU-R BT.709 in H.264's tables of primaries, transfer and matrix
_LIMITED_RANGE = 1


class VideoWriter:
    """Encodes frames to an MP4 file that appears only when it is complete.

    Use it as a context manager: leaving the block finishes the file and renames it to the target, an exception in the
    block removes it. Odd sizes, which 4:2:0 does not support, are padded by repeating the last row or column.

    Args:
        target: Path of the file; an existing file is replaced.
        width: Width of the frames in pixels.
        height: Height of the frames in pixels.
        config: Quality and speed of the encoder.
        rate_hz: Nominal frame rate in Hz, a hint for the encoder and the length of the last frame. The lower the
            rate, the coarser the clock of the file; from one frame in 25 minutes on it is in milliseconds.
        pixel_aspect: Width of a pixel divided by its height.

    Raises:
        OSError: The file cannot be created.
        RuntimeError: PyAV was built without libx264; its wheels on PyPI have it.
    """

    def __init__(
        self,
        target: str | Path,
        width: int,
        height: int,
        config: VideoConfig,
        rate_hz: float | None = None,
        pixel_aspect: float = 1.0,
    ) -> None:
        if "libx264" not in av.codecs_available:
            raise RuntimeError("this build of PyAV has no libx264 encoder; install the wheel from PyPI")
        self._target = Path(target)
        self._partial = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.part")
        self._size = width, height
        interval_s = 1 / (rate_hz or _FALLBACK_RATE_HZ)
        fitting = (ticks for ticks in _CLOCKS if _ROOM * interval_s * ticks <= _MOST_TICKS)
        self._ticks_per_s = next(fitting, _CLOCKS[-1])
        self._interval = min(max(1, round(self._ticks_per_s * interval_s)), _MOST_TICKS)
        self._previous: VideoFrame | None = None
        self._last = 0
        self._last_time = -inf
        self._reformatter = VideoReformatter()
        container_options = {"movflags": "+faststart", "video_track_timescale": str(self._ticks_per_s)}
        self._container = av.open(str(self._partial), "w", format="mp4", options=container_options)
        try:
            # Without B-frames decoding order is display order, so the durations in the file fit any frame rate.
            options = {"crf": str(config.crf), "preset": config.preset, "bf": "0"}
            stream = self._container.add_stream("libx264", rate=_simple(1 / interval_s), options=options)
            stream.width, stream.height = width + width % 2, height + height % 2
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, self._ticks_per_s)
            stream.codec_context.sample_aspect_ratio = _simple(pixel_aspect)
            # Without tags, players guess the matrix, and colours may differ.
            stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
            stream.codec_context.color_trc = _BT709
            stream.codec_context.color_range = _LIMITED_RANGE
            self._stream = stream
            self._container.start_encoding()  # opens the file, so that a bad path fails here
        except BaseException:
            self._discard()
            raise

    def write(self, image: Image, timestamp: float) -> None:
        """Append a frame.

        Frames closer than a tick of the file's clock are moved to the next free tick. A frame that lasts longer than
        MP4 allows, three hours with the finest clock, is repeated.

        Args:
            image: `(height, width, 3)` uint8 BGR, in the size of the video.
            timestamp: Presentation time in seconds, at least zero and greater than that of the previous frame.

        Raises:
            ValueError: The size or the timestamp does not fit.
        """
        height, width = image.shape[:2]
        if (width, height) != self._size:
            raise ValueError(f"the video is {self._size[0]}x{self._size[1]}, the frame {width}x{height}")
        if not (isfinite(timestamp) and timestamp >= 0):
            raise ValueError(f"a timestamp is a number of seconds from zero on, got {timestamp}")
        if timestamp <= self._last_time:
            raise ValueError(f"timestamps must increase: {timestamp} follows {self._last_time}")
        self._last_time = timestamp
        if width % 2 or height % 2:
            border = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            image = cast("Image", border)
        picture = self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(image, "bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        ticks = round(timestamp * self._ticks_per_s)
        if self._previous is not None:
            ticks = min(max(ticks, self._last + 1), self._last + (_MOST_REPEATS + 1) * _MOST_TICKS)
            while ticks - self._last > _MOST_TICKS:
                self._encode(self._previous, self._last + _MOST_TICKS)
        self._encode(picture, ticks)
        self._previous = picture

    def close(self) -> None:
        """Finish the file and move it to the target; if that fails, it is removed.

        Raises:
            ValueError: No frame was written, so there is no video.
        """
        try:
            if self._previous is None:
                raise ValueError(f"no frame was written to {self._target}")
            self._mux(None)
            self._container.close()
            self._partial.replace(self._target)
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def _encode(self, picture: VideoFrame, ticks: int) -> None:
        picture.pts, picture.time_base = ticks, Fraction(1, self._ticks_per_s)
        self._mux(picture)
        self._last = ticks

    def _mux(self, picture: VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            if not packet.duration:
                packet.duration = self._interval
            self._container.mux(packet)

    def _discard(self) -> None:
        try:
            self._container.close()
        finally:
            self._partial.unlink(missing_ok=True)


def _simple(value: float) -> Fraction:
    """Return a simple fraction close to a positive value, such as 24000/1001, 40/33 or 1/2400."""
    return Fraction(value).limit_denominator(1001) if value >= 1 else 1 / Fraction(1 / value).limit_denominator(1001)

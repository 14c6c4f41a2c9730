"""The interface of all sources of frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from motserve.types import Frame

_Source = TypeVar("_Source", bound="VideoSource")


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Properties of a source, known before its frames are read.

    Attributes:
        width: Width of a frame in pixels, after rotation.
        height: Height of a frame in pixels, after rotation.
        rate_hz: Average frame rate in Hz; None where it is unknown.
        frame_count: Number of frames as far as it is known without decoding; None where it is unknown.
        duration_s: Declared duration in seconds; None where it is not declared.
        codec: Name of the codec, such as `h264`; `images` for a folder.
        pixel_aspect: Width of a pixel divided by its height, after rotation. Boxes are in stored pixels:
            multiply horizontal lengths by this ratio to compare them with vertical ones.
    """

    width: int
    height: int
    rate_hz: float | None
    frame_count: int | None
    duration_s: float | None
    codec: str
    pixel_aspect: float = 1.0


class VideoSource(ABC):
    """An open video whose frames can be read once. Use it as a context manager, or call `close`."""

    @property
    @abstractmethod
    def info(self) -> VideoInfo:
        """Size, rate and length of the video."""

    @property
    def frames_damaged(self) -> int:
        """Number of frames so far that could not be decoded and are skipped, or that were decoded with damage."""
        return 0

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Iterate over the frames, once.

        Args:
            start: Number of frames to skip at the beginning. They are decoded where the codec needs it but not
                converted; indices and timestamps remain those of the whole video.

        Yields:
            The frames in display order, with strictly increasing indices and timestamps in seconds. Indices of
            a video file begin with `start` and have no gaps; those of a folder have a gap for each missing image.

        Raises:
            InvalidVideo: The data is broken, cut off or larger than the configuration accepts.
            RuntimeError: The frames were read before.
        """

    @abstractmethod
    def check_complete(self) -> None:
        """Check without decoding that the video is complete. Its frames cannot be read afterwards.

        Raises:
            InvalidVideo: It is cut off.
            RuntimeError: The frames were read before.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the files behind the source. Calling it again does nothing."""

    def __enter__(self: _Source) -> _Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

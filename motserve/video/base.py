"""What every source of frames offers, whatever it reads from."""

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
    """What a source says of itself before its frames are read.

    Attributes:
        width: Width of a frame in pixels, after rotation.
        height: Height of a frame in pixels, after rotation.
        rate_hz: Average frame rate in Hz; None where the source does not know.
        frame_count: Number of frames as far as it can be told without decoding; None where it cannot.
        duration_s: Duration in seconds as declared; None where it is not.
        codec: Name of the codec, such as `h264`; `images` for a folder.
        pixel_aspect: Width of a pixel divided by its height, after rotation. Boxes are in pixels as they are stored:
            where this is not 1, multiply horizontal lengths by it to compare them with vertical ones.
    """

    width: int
    height: int
    rate_hz: float | None
    frame_count: int | None
    duration_s: float | None
    codec: str
    pixel_aspect: float = 1.0


class VideoSource(ABC):
    """A video that is open for one walk through its frames. Use it as a context manager, or call `close`."""

    @property
    @abstractmethod
    def info(self) -> VideoInfo:
        """Size, rate and length of the video."""

    @property
    def frames_damaged(self) -> int:
        """Frames so far that could not be decoded and are left out, or were decoded with damage."""
        return 0

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Walk through the frames, once.

        Args:
            start: Number of frames to leave out at the beginning. They are decoded where the codec needs it but not
                converted; indices and timestamps stay those of the whole video.

        Yields:
            The frames in display order, with strictly increasing indices and timestamps in seconds. Those of a
            video file begin with `start` and have no gaps; those of a folder have one for each picture that is missing.

        Raises:
            InvalidVideo: The data is broken, cut off or larger than the configuration accepts.
            RuntimeError: The frames were walked through before.
        """

    @abstractmethod
    def check_complete(self) -> None:
        """Tell without decoding whether the video is all there. Its frames cannot be walked through afterwards.

        Raises:
            InvalidVideo: It is cut off.
            RuntimeError: The frames were walked through before.
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

"""The clip that all contenders of a benchmark track."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from motserve.config import Config
from motserve.types import Image
from motserve.video import VideoWriter, open_video

_FALLBACK_RATE_HZ: Final = 30.0


def write_clip(source: Path, frames: int, config: Config, target: Path) -> None:
    """Encode the first frames of a video as an MP4 file; a shorter video begins again until there are enough.

    Args:
        source: A video file or a folder of pictures.
        frames: Number of frames, at least 1.
        config: The configuration; its section `video` is used.
        target: The file.

    Raises:
        NotFound: There is no video.
        InvalidVideo: It cannot be decoded.
    """
    with open_video(source, config.video) as video:
        info = video.info
    writer = VideoWriter(target, info.width, info.height, config.video, info.rate_hz, info.pixel_aspect)
    with writer:
        for image, timestamp in islice(_repeated(source, config), frames):
            writer.write(image, timestamp)


def _repeated(source: Path, config: Config) -> Iterator[tuple[Image, float]]:
    """Yield pictures and timestamps in seconds without an end."""
    start = 0.0
    while True:
        last = 0.0
        with open_video(source, config.video) as video:
            interval = 1 / (video.info.rate_hz or _FALLBACK_RATE_HZ)
            for frame in video.frames():
                last = frame.timestamp
                yield frame.image, start + last
        start += last + interval

"""Checks a video before it is accepted, at the cost of reading it once."""

from __future__ import annotations

from pathlib import Path

from motserve.config import VideoConfig
from motserve.video.base import VideoInfo
from motserve.video.source import open_video


def probe_video(path: str | Path, config: VideoConfig, name: str | None = None) -> VideoInfo:
    """Open a video, decode its first frame, and see whether the rest of it is there.

    Args:
        path: Video file or image folder.
        config: Limits.
        name: What messages call the video; the file's own name by default.

    Returns:
        What the video says of itself.

    Raises:
        NotFound: Nothing is at the path.
        InvalidVideo: It is no video, has no frame, is cut off or exceeds a limit.
    """
    with open_video(path, config, name) as source:
        source.check_complete()
        return source.info

"""Checks a video before it is accepted; this reads the file once."""

from __future__ import annotations

from pathlib import Path

from motserve.config import VideoConfig
from motserve.video.base import VideoInfo
from motserve.video.source import open_video


def probe_video(path: str | Path, config: VideoConfig, name: str | None = None) -> VideoInfo:
    """Open a video, decode its first frame, and check that it is complete.

    Args:
        path: Video file or image folder.
        config: Limits.
        name: Name of the video in messages; the file name by default.

    Returns:
        The properties of the video.

    Raises:
        NotFound: The path does not exist.
        InvalidVideo: It is not a video, has no frame, is cut off or exceeds a limit.
    """
    with open_video(path, config, name) as source:
        source.check_complete()
        return source.info

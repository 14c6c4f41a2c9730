"""Opens what a path points at: a video file or a folder of images."""

from __future__ import annotations

from pathlib import Path

from motserve.config import VideoConfig
from motserve.errors import NotFound
from motserve.video.base import VideoSource
from motserve.video.file import VideoFile
from motserve.video.images.folder import ImageFolder


def open_video(path: str | Path, config: VideoConfig, name: str | None = None, by_number: bool = True) -> VideoSource:
    """Open a video and decode its first picture.

    Args:
        path: A video file, or a folder: a MOTChallenge sequence (`img1/` or what `seqinfo.ini` names) or one that
            holds the images itself. Images are `.jpg`, `.jpeg` or `.png`, taken in natural order of their names.
        config: Limits on size and length, rate of a folder without `seqinfo.ini`.
        name: What messages call the video; the file's own name by default.
        by_number: Let the numbers in the names of images say which frames they are; see `number_frames`. Else they are
            counted one after the other.

    Returns:
        The open source; close it or use it as a context manager.

    Raises:
        NotFound: Nothing is at the path.
        InvalidVideo: It is no video, has no frame, is cut off or exceeds a limit.
    """
    path = Path(path)
    name = name or path.name or str(path)
    if path.is_dir():
        return ImageFolder(path, config, name, by_number)
    if not path.is_file():
        raise NotFound(f"there is no video at {path}")
    return VideoFile(path, config, name)

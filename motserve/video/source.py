"""Opens a video file or a folder of images."""

from __future__ import annotations

from pathlib import Path

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo, NotFound
from motserve.video.base import VideoSource
from motserve.video.file import VideoFile
from motserve.video.images.folder import ImageFolder


def open_video(path: str | Path, config: VideoConfig, name: str | None = None, by_number: bool = True) -> VideoSource:
    """Open a video and decode its first frame.

    Args:
        path: A video file, or a folder: a MOTChallenge sequence (`img1/` or the folder in `seqinfo.ini`) or a
            folder of images. Images are `.jpg`, `.jpeg` or `.png`, in natural order of their names.
        config: Limits on size and length, rate of a folder without `seqinfo.ini`.
        name: Name of the video in messages; the file name by default.
        by_number: Take frame numbers from the names of images; see `number_frames`. Otherwise images are counted.

    Returns:
        The open source; close it or use it as a context manager.

    Raises:
        NotFound: The path does not exist.
        InvalidVideo: It is not a video, has no frame, is cut off or exceeds a limit.
    """
    path = Path(path)
    name = name or path.name or str(path)
    if path.is_dir():
        return ImageFolder(path, config, name, by_number)
    if not path.is_file():
        raise NotFound(f"there is no video at {path}")
    return VideoFile(path, config, name)


def check_source(path: Path) -> None:
    """Check, without reading it, that there is a file or a folder at a path.

    The message tells what a link refers to: it is for the user of this machine, not for clients of the service.

    Raises:
        NotFound: There is nothing, or a broken link.
        InvalidVideo: It is neither a file nor a folder.
    """
    try:
        if path.is_dir() or path.is_file():
            return
        exists, target = path.exists(), path.readlink() if path.is_symlink() else None
    except OSError as error:
        raise NotFound(f"there is no video at {path}: {error.strerror}") from error
    if exists:
        raise InvalidVideo(f"{path} is a pipe or a device; a video is a file or a folder of pictures")
    if target is not None:
        raise NotFound(f"there is no video at {path}: it is a link to {target}, which does not exist")
    raise NotFound(f"there is no video at {path}")

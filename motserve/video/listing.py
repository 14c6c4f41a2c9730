"""Finds the videos that an argument of the command line names."""

from __future__ import annotations

import glob
from pathlib import Path

from motserve.errors import InvalidVideo
from motserve.files.folders import VIDEO_SUFFIXES, visible_files
from motserve.video.images.folder import list_images


def list_videos(given: Path) -> list[Path]:
    """Return the videos that a path or a pattern names, sorted by name.

    A folder with pictures is a video itself. Another folder stands for the video files in it, a pattern such as `*.mp4`
    for the files and folders that it matches. Anything else is returned as it is; opening it says what is wrong.

    Args:
        given: The path; if it does not exist, it may be a pattern.
    """
    try:
        if given.is_dir():
            return _in_folder(given)
        if given.exists() or given.is_symlink() or not glob.has_magic(str(given)):
            return [given]
        matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute patterns
    except OSError:
        return [given]
    return [video for match in matches for video in list_videos(Path(match))] or [given]


def _in_folder(folder: Path) -> list[Path]:
    try:
        if list_images(folder):
            return [folder]
    except InvalidVideo:
        return [folder]
    return visible_files(folder, VIDEO_SUFFIXES) or [folder]

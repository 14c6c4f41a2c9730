"""The pictures behind a sequence: where they lie, what they are, and single frames of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final

from motserve.config import VideoConfig
from motserve.errors import InvalidVideo, NotFound
from motserve.evaluation.sequences import TruthFile
from motserve.provenance import describe_files
from motserve.types import Frame, Image
from motserve.video import open_video

VIDEO_SUFFIXES: Final = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts")


def find_video(truth: TruthFile, videos: Path | None = None) -> Path:
    """Find the video of a sequence.

    Args:
        truth: Its ground truth. Beside it are looked for the folder `img1` and a video with the sequence's name.
        videos: Folder that holds `<sequence>.mp4` (or another container) or the folder `<sequence>`; looked at first.

    Returns:
        A video file or an image folder.

    Raises:
        NotFound: There is none; the message says where it was looked for.
    """
    folders = [folder for folder in (videos, truth.folder or truth.path.parent) if folder is not None]
    for folder in folders:
        if folder == truth.folder and (folder / "img1").is_dir():
            return folder
        for place in (*(folder / f"{truth.name}{suffix}" for suffix in VIDEO_SUFFIXES), folder / truth.name):
            if place.exists():
                return place
    raise NotFound(
        f"no video of {truth.name}: looked for img1/, {truth.name}.mp4 and its like in "
        f"{', '.join(map(str, folders))}; give --videos, or --detections to do without"
    )


class Footage:
    """The frames of one video, for random access that mostly goes forward. Close it or use it as a context manager.

    Args:
        path: A video file or an image folder.
        config: Limits on what is decoded.
    """

    def __init__(self, path: Path, config: VideoConfig) -> None:
        self.path = path
        self._config = config
        self._open = ExitStack()
        self._walk: Iterator[Frame] | None = None
        self._frame: Frame | None = None

    @cached_property
    def sha256(self) -> str:
        """Checksum of the file; of a folder, that of its pictures, their names, and the rate that it declares."""
        if not self.path.is_dir():
            return str(describe_files([self.path])["sha256"])
        images = self.path / "img1" if (self.path / "img1").is_dir() else self.path
        return str(describe_files([images, self.path / "seqinfo.ini"], self.path)["sha256"])

    def image(self, index: int) -> Image:
        """Return the picture of a frame; only one is held at a time.

        Raises:
            InvalidVideo: The video cannot be decoded up to there.
        """
        if self._frame is None or self._walk is None or index < self._frame.index:
            self.close()
            source = self._open.enter_context(open_video(self.path, self._config))
            self._walk = source.frames(index)
            self._frame = next(self._walk, None)
        while self._frame is not None and self._frame.index < index:
            self._frame = next(self._walk, None)
        if self._frame is None:
            raise InvalidVideo(f"{self.path.name} has no frame {index}")
        return self._frame.image

    def close(self) -> None:
        """Release the video. Calling it again does nothing; the next `image` opens it anew."""
        self._open.close()
        self._walk = self._frame = None

    def __enter__(self) -> Footage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

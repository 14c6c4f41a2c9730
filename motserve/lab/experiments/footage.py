"""The video of a sequence: finding it, checking it, and random access to its frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final

from motserve.config import VideoConfig
from motserve.errors import InvalidData, InvalidVideo, NotFound
from motserve.lab.evaluation.sequences import TruthFile
from motserve.models.provenance import describe_files
from motserve.types import Frame, Image
from motserve.video import VideoSource, open_video
from motserve.video.images.folder import folder_rate_hz, list_images
from motserve.video.images.numbering import picture_numbers
from motserve.video.images.seqinfo import IMAGE_DIR, read_seqinfo

VIDEO_SUFFIXES: Final = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts")


def find_video(truth: TruthFile, videos: Path | None = None) -> Path:
    """Find the video of a sequence.

    Args:
        truth: Its ground truth. Beside it, the folder of pictures (`imDir` of its `seqinfo.ini`, or `img1`) and a video
            with the name of the sequence are searched.
        videos: Folder that holds `<sequence>.mp4` (or another container) or the folder `<sequence>`; it is searched
            instead of the folder of the ground truth.

    Returns:
        A video file or an image folder.

    Raises:
        NotFound: There is none; the message lists the searched paths.
        InvalidData: The `seqinfo.ini` is malformed.
    """
    folder = videos or truth.folder or truth.path.parent
    is_own = truth.folder is not None and folder.resolve() == truth.folder.resolve()
    info = read_seqinfo(folder) if is_own else None
    images = (info.image_dir if info else None) or IMAGE_DIR
    if is_own and (folder / images).is_dir():
        return folder
    inner = folder / truth.name
    files = [place / f"{truth.name}{suffix}" for place in (folder, inner) for suffix in VIDEO_SUFFIXES]
    for place in (*files, inner):
        if place.exists():
            return place
    beside = f"{images}/, " if is_own else ""
    raise NotFound(
        f"no video of {truth.name}: searched {beside}{truth.name}.mp4 (or another container) and {truth.name}/ in "
        f"{folder}; give --videos, or --detections to need no video"
    )


def _check_numbers(images: Sequence[Path]) -> None:
    """Refuse numbered pictures with a gap: pictures after it would be read as wrong frames.

    Numbers that do not count frames, such as milliseconds, are accepted.
    """
    names = [file.stem for file in images]
    numbers = picture_numbers(names) or sorted(int(name) for name in names if name.isdecimal())
    steps = list(pairwise(numbers))
    gaps = [(before, after) for before, after in steps if after > before + 1]
    if gaps and len(gaps) < len(steps) / 2:
        before, after = gaps[0]
        raise InvalidVideo(f"{images[0].parent}: picture {before + 1} is missing between {before} and {after}")


class Footage:
    """Random access to the frames of one video, mostly forwards. Close it or use it as a context manager.

    Args:
        path: A video file or an image folder.
        config: Limits on what is decoded.
        truth: Ground truth of the sequence that the video must belong to; None to accept any video.
    """

    def __init__(self, path: Path, config: VideoConfig, truth: TruthFile | None = None) -> None:
        self.path = path
        # a folder of pictures without a seqinfo.ini of its own has the rate of its sequence
        rate = {"image_folder_rate_hz": truth.rate_hz} if truth is not None and truth.rate_hz else {}
        self._config = config.model_copy(update=rate)
        self._truth = truth
        self._opened = False
        self._open = ExitStack()
        self._frames: Iterator[Frame] | None = None
        self._frame: Frame | None = None

    @cached_property
    def sha256(self) -> str:
        """Checksum of the file; for a folder, of its pictures and their names."""
        if not self.path.is_dir():
            return str(describe_files([self.path])["sha256"])
        images = list_images(self.path)
        return str(describe_files(images, images[0].parent if images else self.path)["sha256"])

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame in pixels; for a video file read from its header, without decoding.

        Raises:
            InvalidVideo: It is not a video.
            InvalidData: It is not the video of its sequence.
        """
        with self.open() as source:
            return source.info.width, source.info.height

    @property
    def was_read(self) -> bool:
        """Whether a result depends on the frames, decoded now or in an earlier run whose result was cached."""
        return self._opened or "sha256" in vars(self)

    @property
    def rate_hz(self) -> float | None:
        """Frame rate of a folder of pictures in Hz; None for a video file, which has its own."""
        return folder_rate_hz(self.path, self._config) if self.path.is_dir() else None

    def open(self) -> VideoSource:
        """Open the video for one pass over its frames.

        Pictures of a folder are numbered consecutively, as the frames of the ground truth are.

        Raises:
            InvalidVideo: It is not a video, or the numbers of a folder's pictures have a gap.
            InvalidData: It is not the video of its sequence: length or picture size differ.
        """
        source = open_video(self.path, self._config, by_number=False)
        self._opened = True
        try:
            self.check((source.info.width, source.info.height))
        except BaseException:
            source.close()
            raise
        return source

    def image(self, index: int) -> Image:
        """Return the image of a frame; only one is in memory at a time.

        Raises:
            InvalidVideo: The video cannot be decoded up to this frame.
        """
        if self._frame is None or self._frames is None or index < self._frame.index:
            self.close()
            source = self._open.enter_context(self.open())
            self._frames = source.frames(index)
            self._frame = next(self._frames, None)
        while self._frame is not None and self._frame.index < index:
            self._frame = next(self._frames, None)
        if self._frame is None:
            raise InvalidVideo(f"{self.path.name} has no frame {index}")
        return self._frame.image

    def check(self, size: tuple[int, int]) -> None:
        """Check that this is the video of its sequence.

        Args:
            size: Width and height of a frame in pixels. The length is checked for a folder only: the length that a
                container declares is not always true.

        Raises:
            InvalidVideo: The numbers of a folder's pictures have a gap.
            InvalidData: The length of the folder or the size of the frames differs from the sequence.
        """
        truth = self._truth
        if truth is not None and truth.size not in (None, size):
            raise InvalidData(
                f"{self.path} is {size[0]}x{size[1]}, the seqinfo.ini of {truth.name} says "
                f"{truth.size[0]}x{truth.size[1]}; this is not its video"
            )
        if not self.path.is_dir():
            return
        images = list_images(self.path)
        if truth is None or truth.frames is None:
            _check_numbers(images)
        elif len(images) != truth.frames:
            place = images[0].parent if images else self.path
            raise InvalidData(
                f"{place} has {len(images)} pictures, {truth.name} has {truth.frames} frames; this is not its video"
            )

    def close(self) -> None:
        """Release the video. Calling it again does nothing; the next `image` opens it again."""
        self._open.close()
        self._frames = self._frame = None

    def __enter__(self) -> Footage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

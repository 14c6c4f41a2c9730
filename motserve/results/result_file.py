"""The append-only file that holds the tracks of a video, one line a frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson

from motserve.errors import InvalidData, NotFound
from motserve.files.atomic import append_whole, replacing
from motserve.results.records import decode_frame, encode_frame
from motserve.types import TrackedFrame

_BLOCK_BYTES = 1 << 20


class ResultWriter:
    """Appends frames to a result file that others may read at the same time.

    Each call of `append` is one write of whole lines. With `resume_at` the file of an earlier run is continued: later
    lines, and an incomplete last line after a crash, are cut off.

    Args:
        path: The file; created if it is missing.
        class_names: Name of each class index that occurs.
        resume_at: Number of frames (lines) of the file to keep; 0 starts with an empty file.

    Raises:
        InvalidData: The file to continue holds fewer frames, or a line is malformed or out of order.
    """

    def __init__(self, path: str | Path, class_names: Mapping[int, str], resume_at: int = 0) -> None:
        self._path = Path(path)
        self._names = class_names
        self._next = 0
        self._file: BinaryIO = self._path.open("r+b" if resume_at and self._path.exists() else "wb", buffering=0)
        try:
            if resume_at:
                self._file.truncate(self._end_of_lines(resume_at))
                self._file.seek(0, 2)
        except BaseException:
            self._file.close()
            raise

    def append(self, frames: Iterable[TrackedFrame]) -> None:
        """Append frames and pass them to the operating system before returning.

        Args:
            frames: Frames with increasing indices, later than all previous ones.

        Raises:
            ValueError: An index does not increase, or a frame cannot be written; then none of the frames is written.
        """
        lines = []
        following = self._next
        for frame in frames:
            if frame.index < following:
                raise ValueError(f"{self._path.name}: frame {frame.index} was appended where {following} comes next")
            lines.append(encode_frame(frame, self._names))
            following = frame.index + 1
        append_whole(self._file, b"".join(lines))
        self._next = following

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return self._file.tell()

    def check(self) -> None:
        """Check that the file is still at its path, as long as it was written.

        Raises:
            InvalidData: It was removed, replaced or truncated.
        """
        opened = os.fstat(self._file.fileno())
        try:
            there = self._path.stat()
        except FileNotFoundError as error:
            raise InvalidData(f"{self._path.name} was removed while it was written; start again") from error
        if (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino):
            raise InvalidData(f"{self._path.name} was replaced while it was written; start again")
        if there.st_size != self.size:
            raise InvalidData(
                f"{self._path.name} has {there.st_size} bytes where {self.size} were written; start again"
            )

    def sync(self) -> None:
        """Wait until all data is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Calling it again does nothing."""
        self._file.close()

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_of_lines(self, count: int) -> int:
        """Return the length of the first `count` lines in bytes, and set the next frame index after them."""
        end = number = 0
        for number, line in enumerate(islice(read_lines(self._path), count), 1):
            where = f"{self._path.name}, line {number}"
            index = _frame_index(line, where)
            if index < self._next:
                raise InvalidData(f"{where}: frame {index} comes after frame {self._next - 1}; start again")
            end, self._next = end + len(line), index + 1
        if number < count:
            raise InvalidData(
                f"{self._path.name} holds {number} frames and cannot be continued after {count}; start again"
            )
        return end


def truncate_results(path: Path, length: int) -> None:
    """Truncate a result file by replacing it with a copy of its first bytes.

    A process that still has the old file open writes to the old one, which has no readers any more.

    Args:
        path: The file; it may be missing if `length` is 0.
        length: Number of bytes to keep.

    Raises:
        InvalidData: The file is shorter, or `length` is not the end of a line.
    """
    with replacing(path) as partial, partial.open("wb") as copy:
        left, last = length, b"\n"
        if length and path.exists():
            with path.open("rb") as file:
                while left and (block := file.read(min(left, _BLOCK_BYTES))):
                    copy.write(block)
                    left, last = left - len(block), block[-1:]
        if left or last != b"\n":
            raise InvalidData(f"{path.name} does not hold whole lines of {length} bytes; start again")


def read_lines(path: str | Path) -> Iterator[bytes]:
    """Read the complete lines of a result file, newline included, one at a time.

    A last line without a newline is skipped: it is being written, or a crash cut it off.

    Raises:
        NotFound: There is no such file.
    """
    try:
        with Path(path).open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except FileNotFoundError as error:
        raise NotFound(f"there is no result file {path}") from error


def read_results(path: str | Path, class_names: Mapping[int, str]) -> Iterator[TrackedFrame]:
    """Read a result file back, one frame in memory at a time.

    Boxes, confidences and timestamps are rounded as in the file; the detection of a row is unknown.

    Args:
        path: The file.
        class_names: Name of each class index that may occur.

    Raises:
        NotFound: There is no such file.
        InvalidData: A line is malformed or out of order; the message names file and line.
    """
    name = Path(path).name
    indices = {class_name: index for index, class_name in class_names.items()}
    last = -1
    for number, line in enumerate(read_lines(path), 1):
        where = f"{name}, line {number}"
        frame = decode_frame(line, indices, where)
        if frame.index <= last:
            raise InvalidData(f"{where}: frame {frame.index} comes after frame {last}")
        last = frame.index
        yield frame


def _frame_index(line: bytes, where: str) -> int:
    try:
        return int(orjson.loads(line)["frame"])
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidData(f"{where}: not the tracks of a frame") from error

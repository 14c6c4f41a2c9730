"""A file with the detections of a video: written while the video is tracked, read by the next run.

It is a sequence of blocks, one for each chunk of frames, with a checksum each. Their content is plain NumPy arrays, so
reading one runs no code. A block that a crash cut off, and everything behind a damaged block, is computed again.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from motserve.files.atomic import append_whole
from motserve.types import Detections

_FORMAT: Final = 1
_PREFIX: Final = struct.Struct("<QI")
"""Length and CRC-32 of the content of a block."""

_ROW: Final = np.dtype([("frame", "<i8"), ("box", "<f4", 4), ("score", "<f4"), ("class", "<i8")])


class DetectionFile:
    """Reads the stored detections of a video chunk by chunk, and appends those of the chunks behind them.

    One process at a time appends to a file; a second one only reads what is there, and so does one that may not write.

    Args:
        path: The file; created if it is missing.
        max_bytes: Length beyond which nothing is appended.

    Attributes:
        class_names: Name of each class index of the detector; None in a new file, see `begin`.

    Raises:
        OSError: The file cannot be opened or read.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._file, is_writable = _open(path)
        self._max_bytes = max_bytes
        try:
            self._is_writer = is_writable and _lock(self._file)
            self._file.seek(0)
            self.class_names = _header_in(self._read_block())
            self._is_reading = self.class_names is not None
            self._end = self._file.tell() if self._is_reading else 0
        except BaseException:
            self._file.close()
            raise

    def begin(self, class_names: Mapping[int, str]) -> None:
        """Write the first block of a new file; nothing is done for another one.

        Args:
            class_names: Name of each class index of the detector.

        Raises:
            OSError: The file cannot be written.
        """
        if self.class_names is None:
            names = {str(index): name for index, name in class_names.items()}
            self._append(orjson.dumps({"format": _FORMAT, "class_names": names}))
            self.class_names = dict(class_names)

    def take(self, indices: Sequence[int]) -> list[Detections] | None:
        """Return the detections of the next frames; None if they, and all later ones, are not in the file.

        Args:
            indices: Index of each frame, greater than those of the previous call.
        """
        if not self._is_reading:
            return None
        self._file.seek(self._end)
        stored = _chunk_in(self._read_block())
        if stored is None or stored[0].tolist() != list(indices):
            self._is_reading = False
            return None
        self._end = self._file.tell()
        frames, rows = stored
        return [_detections(rows[rows["frame"] == frame]) for frame in frames.tolist()]

    def append(self, indices: Sequence[int], detections: Sequence[Detections]) -> None:
        """Append the detections of the frames that `take` did not have, in the order of the frames.

        Raises:
            OSError: The file cannot be written; it ends with the last whole block.
        """
        rows = np.empty(sum(map(len, detections)), _ROW)
        rows["frame"] = np.repeat(np.asarray(indices, np.int64), [len(frame) for frame in detections])
        if len(rows):
            rows["box"] = np.concatenate([frame.boxes for frame in detections])
            rows["score"] = np.concatenate([frame.scores for frame in detections])
            rows["class"] = np.concatenate([frame.classes for frame in detections])
        content = io.BytesIO()
        np.save(content, np.asarray(indices, np.int64), allow_pickle=False)
        np.save(content, rows, allow_pickle=False)
        self._append(content.getvalue())

    def close(self) -> None:
        """Close the file. Calling it again does nothing."""
        self._file.close()

    def __enter__(self) -> DetectionFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, content: bytes) -> None:
        if not self._is_writer:
            return
        self._is_reading = False
        if self._end + _PREFIX.size + len(content) > self._max_bytes:
            self._is_writer = False  # what follows would have a gap before it
            return
        self._file.truncate(self._end)  # what is behind is damaged, or of another run
        self._file.seek(self._end)
        append_whole(self._file, _PREFIX.pack(len(content), zlib.crc32(content)) + content)
        self._end += _PREFIX.size + len(content)

    def _read_block(self) -> bytes | None:
        """Return the content of the next block; None if there is no whole one."""
        prefix = self._file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            return None
        length, crc = _PREFIX.unpack(prefix)
        if length > os.fstat(self._file.fileno()).st_size - self._file.tell():
            return None
        content = self._file.read(length)
        return content if len(content) == length and zlib.crc32(content) == crc else None


def _open(path: Path) -> tuple[BinaryIO, bool]:
    """Open a file to read and append, or to read where it may not be written; return whether it may."""
    try:
        return path.open("a+b", buffering=0), True
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return path.open("rb", buffering=0), False


def _lock(file: BinaryIO) -> bool:
    """Return whether this process may write: none else does, or the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _header_in(content: bytes | None) -> dict[int, str] | None:
    try:
        header = orjson.loads(content or b"")
        if header["format"] != _FORMAT:
            return None
        return {int(index): str(name) for index, name in header["class_names"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _chunk_in(content: bytes | None) -> tuple[NDArray[np.int64], NDArray[np.void]] | None:
    """Return the indices of the frames of a chunk and its rows; None if there are none."""
    if content is None:
        return None
    stream = io.BytesIO(content)
    try:
        frames, rows = np.load(stream, allow_pickle=False), np.load(stream, allow_pickle=False)
    except (EOFError, ValueError):  # a block of another kind
        return None
    return (frames, rows) if frames.dtype == np.int64 and rows.dtype == _ROW else None


def _detections(rows: NDArray[np.void]) -> Detections:
    return Detections(rows["box"].copy(), rows["score"].copy(), rows["class"].copy())

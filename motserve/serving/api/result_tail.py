"""Reads a result file while it grows, also after a resumed session has truncated it."""

from __future__ import annotations

from pathlib import Path

_BLOCK_BYTES = 1 << 20


class ResultTail:
    """Returns each line of a growing file once.

    A session that resumes a video truncates the file to its checkpoint and tracks the frames after it again. A reader
    continues after the last line it has returned. The lines written again are usually identical; if the rounding of a
    number differs, the reader finds its position by counting lines.

    Args:
        path: The file; it may not exist yet.

    Attributes:
        frames: Lines returned so far.
    """

    def __init__(self, path: Path) -> None:
        self.frames = 0
        self._path = path
        self._offset = 0
        self._last = b""

    def read(self) -> bytes:
        """Return the next complete lines, at most 1 MiB; empty if there are none yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                before = file.read(len(self._last))
                if before != self._last:  # the file was truncated or written again
                    file.seek(0)
                    for _ in range(self.frames):
                        if not file.readline().endswith(b"\n"):
                            return b""  # this line is not written again yet
                    self._offset = file.tell()
                data = file.read(_BLOCK_BYTES)
        except FileNotFoundError:
            return b""
        lines = data[: data.rfind(b"\n") + 1]
        if lines:
            self.frames += lines.count(b"\n")
            self._offset += len(lines)
            self._last = lines[lines.rfind(b"\n", 0, -1) + 1 :]
        return lines

"""Follows the result file of a video that is in work, also when another session goes on with a shorter copy of it."""

from __future__ import annotations

from pathlib import Path

_BLOCK_BYTES = 1 << 20


class ResultTail:
    """Gives each line of a growing file once.

    A session that takes a video up cuts the file back to its checkpoint and tracks the frames behind it again. Readers
    go on where they were. Mostly those lines are the same bytes again; where a number was rounded the other way, the
    place is found by counting lines.

    Args:
        path: The file; it may not be there yet.

    Attributes:
        frames: Lines given so far.
    """

    def __init__(self, path: Path) -> None:
        self.frames = 0
        self._path = path
        self._offset = 0
        self._last = b""

    def read(self) -> bytes:
        """Return the next whole lines, in a block that a slow reader cannot make grow; empty while there are none."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                before = file.read(len(self._last))
                if before != self._last:  # cut back, or written anew
                    file.seek(0)
                    for _ in range(self.frames):
                        if not file.readline().endswith(b"\n"):
                            return b""  # not there again
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

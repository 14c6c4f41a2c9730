"""Reads MOTChallenge text: ground truth, public detections and results of trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from motserve.errors import InvalidData, NotFound
from motserve.types import FloatArray, IntArray

MOST_FRAMES: Final = 1_000_000
"""Frames of a sequence, at the most; a frame behind them is a mistake, for which memory would be taken."""

MOST_ID: Final = 2**53
"""IDs lie below it: of larger ones, not every whole number can be told from the next in float64."""

MOST_PIXELS: Final = 1e9
"""Coordinates lie below it; areas of larger boxes are not finite."""

_LEAST_COLUMNS = 6  # frame, id, left, top, width, height
_MOST_SHOWN = 80  # characters of a line


@dataclass(frozen=True, slots=True)
class MotTable:
    """The rows of a MOTChallenge file, sorted by frame, otherwise in the order of the file.

    Attributes:
        name: What errors call the file: its path as it was given.
        frames: `(n,)` int64, frame index from 0 (the file counts from 1).
        ids: `(n,)` int64; -1 in files of detections.
        ltwh: `(n, 4)` float64, left, top, width and height in pixels as in the file, its origin at 1. Scores are
            computed on these numbers: rounded or moved ones would decide a match at the very limit differently.
        scores: `(n,)` float32, the seventh column: confidence, or the flag of ground truth that says whether a row
            counts; 1 where the file has no such column.
        classes: `(n,)` int64, the eighth column, -1 where there is none. Only in MOT16, MOT17 and MOT20 ground truth
            is it a class; elsewhere it is a world coordinate, rounded towards zero.
        visibility: `(n,)` float32, the ninth column of ground truth in [0, 1]; -1 where there is none.
        lines: `(n,)` int64, line of the file that each row stands in, from 1.
        columns: Columns of the file; 9 in ground truth that has classes, 10 in that of MOT15.
        frame_count: Frames that the file speaks of, empty ones among them; None where empty frames leave no trace.
        first_frame: Number of the first frame in the file: 1 in MOTChallenge text, 0 in motserve's own formats.
        last_line: Line of the last frame where `frame_count` is known, else 0.
    """

    name: str
    frames: IntArray
    ids: IntArray
    ltwh: NDArray[np.float64]
    scores: FloatArray
    classes: IntArray
    visibility: FloatArray
    lines: IntArray
    columns: int
    frame_count: int | None = None
    first_frame: int = 1
    last_line: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def boxes(self) -> FloatArray:
        """`(n, 4)` float32, xyxy in pixels with the origin at 0."""
        corners = self.ltwh.copy()
        corners[:, :2] -= 1
        corners[:, 2:] += corners[:, :2]
        return np.asarray(corners, np.float32)

    def part(self, rows: NDArray[np.bool_]) -> MotTable:
        """Return the rows that are marked."""
        columns = ("frames", "ids", "ltwh", "scores", "classes", "visibility", "lines")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


def read_mot(path: str | Path) -> MotTable:
    """Read a MOTChallenge file: `frame,id,left,top,width,height[,conf[,class[,visibility[,…]]]]`.

    Args:
        path: The file; an empty one has no rows.

    Raises:
        NotFound: There is no such file.
        InvalidData: The file cannot be read or a row is malformed; the message names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path} is not a text file") from error
    # not `splitlines`, which also breaks where no editor counts a line
    lines = {number: line for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    if not lines:
        return _table(str(path), np.empty((0, _LEAST_COLUMNS)), np.empty(0, np.int64))
    try:
        rows = np.loadtxt(list(lines.values()), delimiter=",", ndmin=2, comments=None)
    except ValueError:
        rows = None
    if rows is None or not _valid(rows).all():
        raise InvalidData(f"{path}, {_complaint(lines)}")
    return _table(str(path), rows, np.array(list(lines)))


def _valid(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    if rows.shape[1] < _LEAST_COLUMNS:
        return np.zeros(len(rows), np.bool_)
    # a row that is not finite becomes zeros, which are no row either
    numbers = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    frames, ids, ltwh = numbers[:, 0], numbers[:, 1], numbers[:, 2:6]
    whole = (numbers[:, :2] % 1 == 0).all(1) & (frames >= 1) & (frames <= MOST_FRAMES) & (np.abs(ids) < MOST_ID)
    good: NDArray[np.bool_] = whole & (ltwh[:, 2:] >= 0).all(1) & (np.abs(ltwh) < MOST_PIXELS).all(1)
    return good


def _complaint(lines: Mapping[int, str]) -> str:
    """Find the first bad line of a file that did not parse as a whole."""
    width = 0
    for number, line in lines.items():
        fields = line.split(",")
        width = width or len(fields)
        shown = f"{line.strip()[:_MOST_SHOWN]!r}"
        row = [_number(field) for field in fields]
        if None in row:
            return f"line {number}: a field is not a number: {shown}"
        if len(fields) < _LEAST_COLUMNS:
            return f"line {number}: {len(fields)} columns where at least {_LEAST_COLUMNS} are needed"
        if len(fields) != width:
            return f"line {number}: {len(fields)} columns where the lines before have {width}"
        if not _valid(np.array([row], np.float64)).all():
            return (
                f"line {number}: frame must be a whole number from 1 to {MOST_FRAMES}, id a whole number below 2^53, "
                f"width and height not negative, all finite: {shown}"
            )
    return "a line of it is malformed"


def _number(field: str) -> float | None:
    """Read a number as NumPy does, which takes neither 1_000 nor digits of other scripts."""
    try:
        return float(field) if field.isascii() and "_" not in field else None
    except ValueError:
        return None


def _table(name: str, rows: NDArray[np.float64], lines: IntArray) -> MotTable:
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    absent = np.full(len(rows), -1.0)
    columns = rows.shape[1]
    return MotTable(
        name=name,
        frames=rows[:, 0].astype(np.int64) - 1,
        ids=rows[:, 1].astype(np.int64),
        ltwh=np.ascontiguousarray(rows[:, 2:6]),
        scores=(rows[:, 6] if columns > 6 else -absent).astype(np.float32),
        classes=(rows[:, 7] if columns > 7 else absent).astype(np.int64),
        visibility=(rows[:, 8] if columns > 8 else absent).astype(np.float32),
        lines=lines[order],
        columns=columns,
    )

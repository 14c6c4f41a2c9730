"""Reads MOTChallenge text: ground truth, public detections and results of trackers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motserve.errors import InvalidData, NotFound
from motserve.types import FloatArray, IntArray

_LEAST_COLUMNS = 6  # frame, id, left, top, width, height


@dataclass(frozen=True, slots=True)
class MotTable:
    """The rows of a MOTChallenge file, sorted by frame, otherwise in the order of the file.

    Attributes:
        name: What errors call the file.
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

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def boxes(self) -> FloatArray:
        """`(n, 4)` float32, xyxy in pixels with the origin at 0."""
        corners = self.ltwh.copy()
        corners[:, :2] -= 1
        corners[:, 2:] += corners[:, :2]
        return np.asarray(corners, np.float32)


def read_mot(path: str | Path) -> MotTable:
    """Read a MOTChallenge file: `frame,id,left,top,width,height[,conf[,class[,visibility[,…]]]]`.

    Args:
        path: The file; an empty one has no rows.

    Raises:
        NotFound: There is no such file.
        InvalidData: A row is malformed; the message names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path.name} is not a text file") from error
    if not text.strip():
        return _table(path.name, np.empty((0, _LEAST_COLUMNS)), np.empty(0, np.int64))
    try:
        rows = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2, comments=None)
    except ValueError:
        rows = None
    if rows is None or not _valid(rows).all():
        raise InvalidData(_complaint(path.name, text))
    lines = np.array([number for number, line in enumerate(text.splitlines(), 1) if line.strip()])
    return _table(path.name, rows, lines)


def _valid(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    if rows.shape[1] < _LEAST_COLUMNS:
        return np.zeros(len(rows), np.bool_)
    whole = (rows[:, :2] % 1 == 0).all(1)
    good: NDArray[np.bool_] = np.isfinite(rows).all(1) & whole & (rows[:, 0] >= 1) & (rows[:, 4:6] >= 0).all(1)
    return good


def _complaint(name: str, text: str) -> str:
    """Find the first bad line of a file that did not parse as a whole."""
    width = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split(",")
        width = width or len(fields)
        try:
            row = np.array([[float(field) for field in fields]])
        except ValueError:
            return f"{name}, line {number}: a field is not a number: {line.strip()[:80]!r}"
        if len(fields) < _LEAST_COLUMNS:
            return f"{name}, line {number}: {len(fields)} columns where at least {_LEAST_COLUMNS} are needed"
        if len(fields) != width:
            return f"{name}, line {number}: {len(fields)} columns where the lines before have {width}"
        if not _valid(row).all():
            return (
                f"{name}, line {number}: frame must be a whole number from 1 on, id a whole number, width and height "
                f"not negative, all finite: {line.strip()[:80]!r}"
            )
    return f"{name} is not a MOTChallenge file"


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

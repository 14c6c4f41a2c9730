"""Reads MOTChallenge text: ground truth, public detections and results of trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from motserve.errors import InvalidData, NotFound
from motserve.types import MAX_COORDINATE, BoolArray, FloatArray, IntArray

MOST_FRAMES: Final = 1_000_000
"""Largest number of frames of a sequence; a larger frame number is an error that would take too much memory."""

MOST_ID: Final = 2**53
"""Limit of IDs: float64 does not represent every larger whole number."""

BEYOND_LIMIT: Final = f"the box reaches beyond {MAX_COORDINATE:.0f} pixels"
"""Error message for a box that is not `within_limit`."""

_LEAST_COLUMNS = 6  # frame, id, left, top, width, height
_MOST_SHOWN = 80  # characters of a line
_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "blanks"}  # in order of preference


@dataclass(frozen=True, slots=True)
class MotTable:
    """The rows of a MOTChallenge file, sorted by frame, otherwise in the order of the file.

    Attributes:
        name: Name of the file in errors: its path as given.
        frames: `(n,)` int64, frame index from 0 (the file counts from 1).
        ids: `(n,)` int64; -1 in files of detections.
        ltwh: `(n, 4)` float64, left, top, width and height in pixels as in the file, its origin at 1. Scores are
            computed on these numbers: rounding or shifting them could change a match at the threshold.
        scores: `(n,)` float32, the seventh column: confidence, or in ground truth the flag for rows that
            count; 1 without such a column.
        classes: `(n,)` int64, the eighth column, -1 without one. It is a class only in ground truth of MOT16, MOT17
            and MOT20; elsewhere it is a world coordinate, rounded towards zero.
        visibility: `(n,)` float32, the ninth column of ground truth in [0, 1]; -1 where there is none.
        lines: `(n,)` int64, line of the file of each row, from 1.
        columns: Columns of the file; 9 in ground truth with classes, 10 in that of MOT15.
        frame_count: Number of frames in the file, including empty ones; None in formats that omit empty frames.
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

    def select(self, rows: NDArray[np.bool_]) -> MotTable:
        """Return the rows of a mask, `(n,)` bool."""
        columns = ("frames", "ids", "ltwh", "scores", "classes", "visibility", "lines")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


def read_mot(path: str | Path) -> MotTable:
    """Read a MOTChallenge file: `frame,id,left,top,width,height[,conf[,class[,visibility[,…]]]]`.

    Fields are separated by commas, semicolons, tabs or blanks, the same in all rows; a row may end with a
    separator, as in TrackEval.

    Args:
        path: The file; an empty one has no rows.

    Raises:
        NotFound: There is no such file.
        InvalidData: The file cannot be read, or a row is malformed; the message names file and line.
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
    # not `splitlines`, which also splits at characters that editors do not count as line breaks
    lines = {number: line for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    if not lines:
        return _table(str(path), np.empty((0, _LEAST_COLUMNS)), np.empty(0, np.int64))
    separator = _separator(next(iter(lines.values())))
    rows = _parse(list(lines.values()), separator)
    if rows is None:
        raise InvalidData(f"{path}, {_parse_error(lines, separator)}")
    numbers = np.array(list(lines))
    errors = [(int(np.argmax(is_bad)), message) for is_bad, message in _checks(rows) if is_bad.any()]
    if errors:
        row, message = min(errors)
        raise InvalidData(f"{path}, line {numbers[row]}: {message}: {_shown(lines[int(numbers[row])])}")
    return _table(str(path), rows, numbers)


def require_confidences(table: MotTable, advice: str) -> None:
    """Refuse a file whose scores are not confidences.

    Args:
        table: The rows.
        advice: What the user can do, for the message.

    Raises:
        InvalidData: A score is not in [0, 1]; the message names file and line.
    """
    wrong = np.flatnonzero((table.scores < 0) | (table.scores > 1))
    if len(wrong):
        row = wrong[np.argmin(table.lines[wrong])]
        raise InvalidData(
            f"{table.name}, line {table.lines[row]}: score {table.scores[row]:g} is not a confidence in [0, 1]; "
            f"{advice}"
        )


def split_row(line: str) -> list[str]:
    """Split a row of a MOTChallenge file into its fields, with any allowed separator.

    >>> split_row("1, 2, 3,"), split_row("1 2  3")
    (['1', '2', '3'], ['1', '2', '3'])
    """
    return _fields(line, _separator(line))


def within_limit(ltwh: NDArray[np.float64]) -> BoolArray:
    """Return `(n,)` bool, boxes within `MAX_COORDINATE` pixels of the origin.

    Args:
        ltwh: `(n, 4)` float64, left, top, width and height in pixels; width and height are not negative.
    """
    with np.errstate(over="ignore"):
        corners = np.concatenate([ltwh[:, :2], ltwh[:, :2] + ltwh[:, 2:]], axis=1)
    return np.asarray((np.abs(corners) <= MAX_COORDINATE).all(axis=1))


def _separator(row: str, default: str = ",") -> str:
    """Return the separator of the fields of a row."""
    return next((mark for mark in _SEPARATORS if mark in row.strip()), default)


def _fields(row: str, separator: str) -> list[str]:
    """Split a row; blanks around fields and one separator after the last field are ignored."""
    text = row.strip()
    if separator == " ":
        return [field for field in text.split(" ") if field]
    return [field.strip() for field in text.removesuffix(separator).split(separator)]


def _parse(rows: list[str], separator: str) -> NDArray[np.float64] | None:
    """Return the numbers of all rows; None if they cannot be parsed, see `_parse_error`."""
    if separator == " " and any("\t" in row.strip() for row in rows):
        return None
    texts = [row.strip().removesuffix(separator) for row in rows]
    try:
        table = np.loadtxt(texts, delimiter=None if separator == " " else separator, ndmin=2, comments=None)
    except ValueError:
        return None
    return table if table.shape[1] >= _LEAST_COLUMNS else None


def _parse_error(lines: Mapping[int, str], separator: str) -> str:
    """Return the error of the first bad line of a file that could not be parsed."""
    width = 0
    for number, line in lines.items():
        fields = _fields(line, separator)
        width = width or len(fields)
        own = _separator(line, separator)
        if own != separator and all(map(_is_number, _fields(line, own))):
            return (
                f"line {number}: fields are separated by {_SEPARATORS[own]} where the lines before have "
                f"{_SEPARATORS[separator]}: {_shown(line)}"
            )
        if not all(map(_is_number, fields)):
            return f"line {number}: a field is not a number: {_shown(line)}"
        if len(fields) < _LEAST_COLUMNS:
            return f"line {number}: {len(fields)} columns where at least {_LEAST_COLUMNS} are needed"
        if len(fields) != width:
            return f"line {number}: {len(fields)} columns where the lines before have {width}"
    return "a line of it is malformed"


def _checks(rows: NDArray[np.float64]) -> list[tuple[BoolArray, str]]:
    """Return the checks of numeric rows: for each, the failing rows `(n,)` bool and the error message."""
    is_finite = np.asarray(np.isfinite(rows).all(axis=1))
    numbers = np.where(is_finite[:, None], rows, 1.0)
    frames, ids, ltwh, others = numbers[:, 0], numbers[:, 1], numbers[:, 2:6], numbers[:, 6:]
    return [
        (~is_finite, "all numbers must be finite"),
        (
            (frames % 1 != 0) | (frames < 1) | (frames > MOST_FRAMES),
            f"frame must be a whole number from 1 to {MOST_FRAMES}",
        ),
        ((ids % 1 != 0) | (np.abs(ids) >= MOST_ID), "id must be a whole number below 2^53"),
        ((ltwh[:, 2:] < 0).any(axis=1), "width and height must not be negative"),
        (~within_limit(ltwh), BEYOND_LIMIT),
        ((np.abs(others) >= MOST_ID).any(axis=1), "numbers behind the box must be below 2^53"),
    ]


def _shown(line: str) -> str:
    return f"{line.strip()[:_MOST_SHOWN]!r}"


def _is_number(field: str) -> bool:
    """Return whether NumPy reads a field as a number; it accepts neither 1_000 nor digits of other scripts."""
    try:
        float(field)
    except ValueError:
        return False
    return field.isascii() and "_" not in field


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

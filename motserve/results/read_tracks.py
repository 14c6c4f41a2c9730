"""Reads tracks in any format of motserve as rows for scoring."""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motserve.errors import InvalidData, NotFound
from motserve.results.export import CSV_HEADER
from motserve.results.formats import CONFIDENCE_DECIMALS, PIXEL_DECIMALS, SUFFIXES
from motserve.results.mot import BEYOND_LIMIT, MOST_FRAMES, MOST_ID, MotTable, read_mot, within_limit
from motserve.types import IntArray, TrackedFrame

logger = logging.getLogger("motserve.results")

PERSON_CLASSES = frozenset({"person", "pedestrian"})
"""Class names of the rows that can be scored."""

_NO_CLASS = -1  # in the MOTChallenge export
_MOT_COLUMNS = 10
_MOST_DIGITS = 20
_MOST_SHOWN = 80  # characters of a value
_FIRST_FRAME = 0  # in motserve's own formats
_HEAD_END = b'"frames":['  # of the first line of motserve's JSON; a line for each frame follows
_Row = tuple[int, int, int, list[float], float]  # line, frame, identity, xyxy, confidence


def read_tracks(path: str | Path) -> MotTable:
    """Read tracks: MOTChallenge `.txt`, or `.json`, `.ndjson` and `.csv` as written by motserve.

    The same tracks give the same table in every format. `ids` are the identities.

    Args:
        path: The file.

    Returns:
        The rows. `.json` and `.ndjson` list every frame, so `frame_count` is known. Frames without an image are left
        out; a warning gives their number, except for those at the end.

    Raises:
        NotFound: There is no such file.
        InvalidData: The file cannot be read or is cut off, a row is malformed, frames do not increase, or a
            class is not a person; the message names file and line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == SUFFIXES["mot"]:
        return read_mot(path)
    readers = {SUFFIXES["json"]: _read_json, SUFFIXES["ndjson"]: _read_ndjson, SUFFIXES["csv"]: _read_csv}
    if suffix not in readers:
        raise InvalidData(f"{path}: tracks are read from {', '.join(sorted(SUFFIXES.values()))}")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error
    return readers[suffix](str(path), data.removeprefix(codecs.BOM_UTF8))


def to_table(frames: Sequence[TrackedFrame], name: str, class_names: Mapping[int, str]) -> MotTable:
    """Return tracked frames as the same table that their exported file gives.

    Args:
        frames: Every frame that has an image, in order.
        name: Name of the tracks in errors.
        class_names: Name of each class index that may occur.

    Raises:
        InvalidData: A class is not a person.
    """
    for frame in frames:
        for index in set(frame.tracks.classes.tolist()):
            _check_class(class_names[index], f"{name}, frame {frame.index}")
    counts = [len(frame.identities) for frame in frames]
    ids = np.concatenate([np.empty(0, np.int64), *(frame.identities for frame in frames)])
    boxes = np.concatenate([np.empty((0, 4)), *(frame.tracks.boxes.astype(np.float64) for frame in frames)])
    scores = np.concatenate([np.empty(0), *(frame.tracks.scores.astype(np.float64) for frame in frames)])
    numbers = np.array([frame.index for frame in frames], np.int64)
    indices = np.repeat(numbers, counts)
    lines = np.repeat(np.arange(1, len(frames) + 1), counts)
    boxes, scores = np.round(boxes, PIXEL_DECIMALS), np.round(scores, CONFIDENCE_DECIMALS)
    length = int(numbers[-1]) + 1 if len(frames) else 0
    return _table(name, indices, ids, boxes, scores, lines, length, len(frames))


def _read_json(name: str, data: bytes) -> MotTable:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidData(f"{name}, line {error.lineno}: not JSON: {error.msg}") from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list):
        raise InvalidData(f"{name}, line 1: no list of `frames`; this is not a result of motserve")
    summary = document.get("summary")
    if isinstance(summary, dict) and summary.get("status") == "done" and summary.get("frames") != len(frames):
        raise InvalidData(
            f"{name} has {len(frames)} frames where its summary says {str(summary.get('frames'))[:_MOST_SHOWN]}; it is "
            "incomplete"
        )
    own = data.split(b"\n", 1)[0].rstrip().endswith(_HEAD_END) and data.rstrip().count(b"\n") == len(frames) + 1
    lines = range(2, len(frames) + 2) if own else _lines_of_frames(data.decode())
    return _from_records(name, list(zip(lines, frames, strict=True)))


def _lines_of_frames(text: str) -> list[int]:
    """Return the line of the start of each frame in a document formatted by another tool."""
    decoder = json.JSONDecoder()
    lines: list[int] = []
    line = 1

    def skip(at: int, marks: str) -> int:
        nonlocal line
        while text[at] in marks:
            line += text[at] == "\n"
            at += 1
        return at

    at = skip(0, " \t\r\n{")
    while text[at] != "}":
        key, end = decoder.raw_decode(text, at)
        at = skip(end, " \t\r\n:")
        if key == "frames":
            lines = []
            at = skip(at + 1, " \t\r\n")
            while text[at] != "]":
                lines.append(line)
                _, end = decoder.raw_decode(text, at)
                line += text.count("\n", at, end)
                at = skip(end, " \t\r\n,")
            end = at + 1
        else:
            _, end = decoder.raw_decode(text, at)
            line += text.count("\n", at, end)
        at = skip(end, " \t\r\n,")
    return lines


def _read_ndjson(name: str, data: bytes) -> MotTable:
    records = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            records.append((number, orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            raise InvalidData(f"{name}, line {number}: not JSON: {error.msg}") from error
    return _from_records(name, records)


def _from_records(name: str, records: Sequence[tuple[int, Any]]) -> MotTable:
    rows: list[_Row] = []
    last, missing = -1, 0
    for line, record in records:
        where = f"{name}, line {line}"
        try:
            frame, tracks = _frame_in(record["frame"]), record["tracks"]
            if frame <= last:
                raise InvalidData(f"{where}: frame {frame} comes after frame {last}; frames must increase")
            missing += frame - last - 1
            last = frame
            for track in tracks:
                _check_class(track["class"], where)
                box = [_real(edge, "box") for edge in track["box"]]
                rows.append((line, frame, _whole(track["id"], "id"), box, _real(track["confidence"], "confidence")))
        except KeyError as error:
            raise InvalidData(f"{where}: {error.args[0]!r} is missing") from error
        except (TypeError, ValueError) as error:
            raise InvalidData(f"{where}: not the tracks of a frame: {error}") from error
    if missing:
        logger.warning("%s leaves out %d frames before its last, %d; they count as without tracks", name, missing, last)
    return _from_rows(name, rows, last + 1, records[-1][0] if records else 0)


def _read_csv(name: str, data: bytes) -> MotTable:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidData(f"{name} is not a text file") from error
    rows: list[_Row] = []
    header = CSV_HEADER.decode().strip().split(",")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if next(reader, None) != header:
            raise InvalidData(f"{name}, line 1: the header must be {CSV_HEADER.decode().strip()}")
        for fields in reader:
            if not "".join(fields).strip():
                continue
            where = f"{name}, line {reader.line_num}"
            if len(fields) != len(header):
                raise ValueError(f"{len(fields)} fields where the header has {len(header)}")
            row = dict(zip(header, fields, strict=True))
            _check_class(row["class"], where)
            box = [float(row[edge]) for edge in ("x1", "y1", "x2", "y2")]
            frame, identity = _frame_in(_whole_in(row["frame"])), _whole(_whole_in(row["identity"]), "identity")
            rows.append((reader.line_num, frame, identity, box, float(row["confidence"])))
    except (csv.Error, ValueError) as error:
        raise InvalidData(f"{name}, line {reader.line_num}: malformed row: {error}") from error
    return _from_rows(name, rows, None)


def _whole_in(text: str) -> int | str:
    """Return a field as a whole number, or unchanged if it is not one."""
    digits = text.strip().removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) < _MOST_DIGITS else text


def _whole(value: object, what: str) -> int:
    if type(value) is not int or not -MOST_ID < value < MOST_ID:
        raise ValueError(f"{what} must be a whole number below 2^53, not {str(value)[:_MOST_SHOWN]!r}")
    return value


def _frame_in(value: object) -> int:
    frame = _whole(value, "frame")
    if not 0 <= frame < MOST_FRAMES:
        raise ValueError(f"frame must be from 0 to {MOST_FRAMES - 1}, not {frame}")
    return frame


def _real(value: object, what: str) -> float:
    if type(value) is not int and type(value) is not float:
        raise ValueError(f"{what} must be made of numbers, not {str(value)[:_MOST_SHOWN]!r}")
    return float(value)


def _check_class(name: object, where: str) -> None:
    if not isinstance(name, str) or name.lower() not in PERSON_CLASSES:
        raise InvalidData(
            f"{where}: class {name!r} is not a person, and only people are scored; track with "
            "detector.classes=person or remove these rows"
        )


def _from_rows(name: str, rows: Sequence[_Row], frame_count: int | None, last_line: int = 0) -> MotTable:
    for line, frame, _, box, confidence in rows:
        if len(box) != 4 or not np.isfinite([*box, confidence]).all() or box[2] < box[0] or box[3] < box[1]:
            raise InvalidData(
                f"{name}, line {line}: frame {frame} needs boxes with x1 <= x2 and y1 <= y2 and a confidence, all "
                f"finite, not {box} and {confidence}"
            )
    lines, indices, ids = (np.array([row[column] for row in rows], np.int64) for column in range(3))
    boxes = np.array([row[3] for row in rows], np.float64).reshape(len(rows), 4)
    scores = np.array([row[4] for row in rows], np.float64)
    is_within = within_limit(_ltwh(boxes))
    if not is_within.all():
        row = int(np.argmin(is_within))
        raise InvalidData(f"{name}, line {lines[row]}: frame {indices[row]}: {BEYOND_LIMIT}: {boxes[row].tolist()}")
    order = np.argsort(indices, kind="stable")
    return _table(name, indices[order], ids[order], boxes[order], scores[order], lines[order], frame_count, last_line)


def _table(
    name: str,
    frames: IntArray,
    ids: IntArray,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    lines: IntArray,
    frame_count: int | None,
    last_line: int,
) -> MotTable:
    return MotTable(
        name=name,
        frames=frames,
        ids=ids,
        ltwh=_ltwh(boxes),
        scores=np.asarray(scores, np.float32),
        classes=np.full(len(frames), _NO_CLASS),
        visibility=np.full(len(frames), -1.0, np.float32),
        lines=lines,
        columns=_MOT_COLUMNS,
        frame_count=frame_count,
        first_frame=_FIRST_FRAME,
        last_line=last_line,
    )


def _ltwh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `(n, 4)` xyxy boxes as the numbers in the MOTChallenge export of these tracks."""
    with np.errstate(over="ignore"):
        return np.round(np.concatenate([boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2]], axis=1), PIXEL_DECIMALS)

"""Reads the tracks of a video from any format that motserve writes, as rows for scoring."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motserve.errors import InvalidData, NotFound
from motserve.results.export import CSV_HEADER
from motserve.results.formats import PIXEL_DECIMALS, SUFFIXES
from motserve.results.mot import MotTable, read_mot
from motserve.types import IntArray, TrackedFrame

PEOPLE = frozenset({"person", "pedestrian"})
"""Class names of the rows that can be scored."""

_PEDESTRIAN = 1
_MOT_COLUMNS = 10
_Row = tuple[int, int, int, list[float], float]  # line, frame, identity, xyxy, confidence


def read_tracks(path: str | Path) -> MotTable:
    """Read tracks: MOTChallenge `.txt`, or `.json`, `.ndjson` and `.csv` as motserve writes them.

    The same tracks give the same table whatever the format. `ids` are the identities.

    Args:
        path: The file.

    Returns:
        The rows. From `.json` and `.ndjson`, which name every frame, `frame_count` is known.

    Raises:
        NotFound: There is no such file.
        InvalidData: A row is malformed, a frame is missing between two others, or a class is not a person's; the
            message names file and line.
    """
    path = Path(path)
    if path.suffix == SUFFIXES["mot"]:
        return read_mot(path)
    readers = {SUFFIXES["json"]: _read_json, SUFFIXES["ndjson"]: _read_ndjson, SUFFIXES["csv"]: _read_csv}
    if path.suffix not in readers:
        raise InvalidData(f"{path.name}: tracks are read from {', '.join(sorted(SUFFIXES.values()))}")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    return readers[path.suffix](path.name, data)


def to_table(frames: Sequence[TrackedFrame], name: str, class_names: Mapping[int, str]) -> MotTable:
    """Return tracked frames as the table that their exported file would be read to.

    Args:
        frames: Every frame of the video, in order.
        name: What errors call them.
        class_names: Name of every class index that may occur.

    Raises:
        InvalidData: A class is not a person's.
    """
    for frame in frames:
        for index in set(frame.tracks.classes.tolist()):
            _check_class(class_names[index], f"{name}, frame {frame.index}")
    counts = [len(frame.identities) for frame in frames]
    ids = np.concatenate([np.empty(0, np.int64), *(frame.identities for frame in frames)])
    boxes = np.concatenate([np.empty((0, 4)), *(frame.tracks.boxes.astype(np.float64) for frame in frames)])
    scores = np.concatenate([np.empty(0), *(frame.tracks.scores for frame in frames)])
    indices = np.repeat(np.array([frame.index for frame in frames], np.int64), counts)
    lines = np.repeat(np.arange(1, len(frames) + 1), counts)
    return _table(name, indices, ids, np.round(boxes, PIXEL_DECIMALS), scores, lines, len(frames))


def _read_json(name: str, data: bytes) -> MotTable:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidData(f"{name}, line {error.lineno}: not JSON: {error.msg}") from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list):
        raise InvalidData(f"{name}, line 1: no list of `frames`; this is no result of motserve")
    # motserve writes the head, then a line for each frame; a document laid out otherwise is counted by frames
    layout = data.count(b"\n") == len(frames) + 2
    return _from_records(name, [(number + 1 if layout else number, record) for number, record in enumerate(frames, 1)])


def _read_ndjson(name: str, data: bytes) -> MotTable:
    records = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            records.append((number, orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            raise InvalidData(f"{name}, line {number}: not JSON: {error.msg}") from error
    return _from_records(name, records)


def _from_records(name: str, records: Sequence[tuple[int, Any]]) -> MotTable:
    rows: list[_Row] = []
    for expected, (line, record) in enumerate(records):
        where = f"{name}, line {line}"
        try:
            frame, tracks = record["frame"], record["tracks"]
            if type(frame) is not int:
                raise ValueError(f"frame must be a whole number, not {frame!r}")
            if frame != expected:
                raise InvalidData(f"{where}: frame {frame} stands where frame {expected} is expected; it is missing")
            for track in tracks:
                _check_class(track["class"], where)
                rows.append((line, frame, int(track["id"]), list(map(float, track["box"])), float(track["confidence"])))
        except KeyError as error:
            raise InvalidData(f"{where}: {error.args[0]!r} is missing") from error
        except (TypeError, ValueError) as error:
            raise InvalidData(f"{where}: not the tracks of a frame: {error}") from error
    return _from_rows(name, rows, len(records))


def _read_csv(name: str, data: bytes) -> MotTable:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidData(f"{name} is not a text file") from error
    rows: list[_Row] = []
    header = CSV_HEADER.decode().strip().split(",")
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        if next(reader, None) != header:
            raise InvalidData(f"{name}, line 1: the header must be {CSV_HEADER.decode().strip()}")
        for fields in reader:
            where = f"{name}, line {reader.line_num}"
            row = dict(zip(header, fields, strict=True))
            _check_class(row["class"], where)
            box = [float(row[edge]) for edge in ("x1", "y1", "x2", "y2")]
            frame = int(row["frame"])
            if frame < 0:
                raise ValueError(f"frame must be 0 or more, not {frame}")
            rows.append((reader.line_num, frame, int(row["identity"]), box, float(row["confidence"])))
    except (csv.Error, ValueError) as error:
        raise InvalidData(f"{name}, line {reader.line_num}: malformed row: {error}") from error
    return _from_rows(name, rows, None)


def _check_class(name: object, where: str) -> None:
    if not isinstance(name, str) or name.lower() not in PEOPLE:
        raise InvalidData(
            f"{where}: class {name!r} is unknown to the benchmark, which scores people; track with "
            "detector.classes=person or remove these rows"
        )


def _from_rows(name: str, rows: Sequence[_Row], frame_count: int | None) -> MotTable:
    for line, frame, _, box, confidence in rows:
        if len(box) != 4 or not np.isfinite([*box, confidence]).all() or box[2] < box[0] or box[3] < box[1]:
            raise InvalidData(f"{name}, line {line}: frame {frame} has a box that is none: {box}, {confidence}")
    lines, indices, ids = (np.array([row[column] for row in rows], np.int64) for column in range(3))
    boxes = np.array([row[3] for row in rows], np.float64).reshape(len(rows), 4)
    scores = np.array([row[4] for row in rows], np.float64)
    order = np.argsort(indices, kind="stable")
    return _table(name, indices[order], ids[order], boxes[order], scores[order], lines[order], frame_count)


def _table(
    name: str,
    frames: IntArray,
    ids: IntArray,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    lines: IntArray,
    frame_count: int | None,
) -> MotTable:
    # the numbers that the MOTChallenge export of these tracks holds
    ltwh = np.round(np.concatenate([boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2]], axis=1), PIXEL_DECIMALS)
    return MotTable(
        name=name,
        frames=frames,
        ids=ids,
        ltwh=ltwh,
        scores=np.asarray(scores, np.float32),
        classes=np.full(len(frames), _PEDESTRIAN),
        visibility=np.full(len(frames), -1.0, np.float32),
        lines=lines,
        columns=_MOT_COLUMNS,
        frame_count=frame_count,
    )

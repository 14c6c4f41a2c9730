"""Exports stored lines to any format, lazily: memory does not grow with the video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from motserve.errors import InvalidData
from motserve.files.names import to_json
from motserve.results.formats import CONFIDENCE_DECIMALS, PIXEL_DECIMALS, TIME_DECIMALS, Format

CSV_HEADER = b"frame,timestamp,identity,track,class,confidence,x1,y1,x2,y2,state,reidentified_from,distance,gap_s\n"
_BLOCK_BYTES = 65536  # large enough that the cost per block is negligible


def export(
    lines: Iterable[bytes],
    format: Format,  # noqa: A002 - the name that every caller uses for it
    *,
    video: Mapping[str, object] | None = None,
    models: Mapping[str, object] | None = None,
    summary: Mapping[str, object] | None = None,
    provenance: Mapping[str, object] | None = None,
    name: str = "results",
    block_bytes: int = _BLOCK_BYTES,
) -> Iterator[bytes]:
    """Convert stored lines to a format.

    * `ndjson`: the lines as they are.
    * `json`: one document `{"video": …, "models": …, "summary": …, "frames": [the lines]}`.
    * `mot`: MOTChallenge rows `frame,id,left,top,width,height,conf,-1,-1,-1`, frame and pixel origin at 1, the
      identity as `id`.
    * `csv`: a header, then `frame,timestamp,identity,track,class,confidence,x1,y1,x2,y2,state`, frame and pixels
      from 0, and `reidentified_from,distance,gap_s`, empty except where a new track gets a previous identity.

    Args:
        lines: Stored lines, as returned by `read_lines`.
        format: The format.
        video: Head of the JSON document: description of the video.
        models: Head of the JSON document: weights behind the tracks.
        summary: Head of the JSON document: counts.
        provenance: Head of the JSON document: origin of the tracks; left out if it is None.
        name: Name of the lines in errors.
        block_bytes: Smallest size of a block in bytes; 0 yields each line at once.

    Yields:
        The text in blocks, UTF-8.

    Raises:
        InvalidData: A line is malformed; the message names it.
    """
    if format == "json":
        stamp = {"provenance": provenance} if provenance else {}
        head = to_json(
            {"video": video or {}, "models": models or {}, "summary": summary or {}, **stamp},
            orjson.OPT_SERIALIZE_NUMPY,
        )
        pieces = _document(_parsed(lines, name), head)
    elif format == "ndjson":
        pieces = (line for _, line, _ in _parsed(lines, name))
    elif format == "mot":
        pieces = _rows(lines, name, _mot_rows, b"")
    elif format == "csv":
        pieces = _rows(lines, name, _csv_rows, CSV_HEADER)
    else:
        raise ValueError(f"unknown format {format!r}")
    return _blocks(pieces, block_bytes)


def _parsed(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            record = orjson.loads(line)
        except ValueError as error:
            raise InvalidData(f"{name}, line {number}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise InvalidData(f"{name}, line {number}: not the tracks of a frame")
        yield number, line, record


def _document(parsed: Iterator[tuple[int, bytes, dict[str, Any]]], head: bytes) -> Iterator[bytes]:
    yield head[:-1] + b',"frames":['
    separator = b"\n"
    for _, line, _ in parsed:
        yield separator + line.rstrip()
        separator = b",\n"
    yield b"\n]}\n"


def _rows(lines: Iterable[bytes], name: str, render: Callable[[dict[str, Any]], str], header: bytes) -> Iterator[bytes]:
    if header:
        yield header
    for number, _, record in _parsed(lines, name):
        try:
            rows = render(record)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"{name}, line {number}: not the tracks of a frame: {error!r}") from error
        if rows:
            yield rows.encode()


def _mot_rows(record: dict[str, Any]) -> str:
    frame = record["frame"] + 1
    rows = []
    for track in record["tracks"]:
        x1, y1, x2, y2 = track["box"]
        box = ",".join(f"{value:.{PIXEL_DECIMALS}f}" for value in (x1 + 1, y1 + 1, x2 - x1, y2 - y1))
        rows.append(f"{frame},{track['id']},{box},{track['confidence']:.{CONFIDENCE_DECIMALS}f},-1,-1,-1\n")
    return "".join(rows)


def _csv_rows(record: dict[str, Any]) -> str:
    start = f"{record['frame']},{record['timestamp']:.{TIME_DECIMALS}f}"
    rows = []
    for track in record["tracks"]:
        x1, y1, x2, y2 = track["box"]
        box = ",".join(f"{value:.{PIXEL_DECIMALS}f}" for value in (x1, y1, x2, y2))
        confidence = f"{track['confidence']:.{CONFIDENCE_DECIMALS}f}"
        ids = f"{track['id']},{track['track']},{_quoted(track['class'])}"
        source = track.get("reidentified_from")
        reason = f"{source['track']},{source['distance']},{source['gap_s']}" if source else ",,"
        rows.append(f"{start},{ids},{confidence},{box},{track.get('state', 'measured')},{reason}\n")
    return "".join(rows)


def _quoted(text: str) -> str:
    """Quote a CSV field where RFC 4180 requires it."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _blocks(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    block: list[bytes] = []
    length = 0
    for piece in pieces:
        block.append(piece)
        length += len(piece)
        if length >= size:
            yield b"".join(block)
            block.clear()
            length = 0
    if block:
        yield b"".join(block)

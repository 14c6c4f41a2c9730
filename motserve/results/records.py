"""Encodes the tracks of one frame as a line of JSON and decodes it; all other formats are made from this one.

A line is `{"frame":0,"timestamp":0.0,"tracks":[{"id":1,"track":1,"box":[x1,y1,x2,y2],"confidence":0.9,
"class":"person","state":"measured"}]}`: frame counted from 0, timestamp in seconds, box in pixels with the origin at 0.
A box with a detection is `measured`, others are `predicted` or `interpolated`.

The row of the first frame of a track that got the identity of a returning person also has
`"reidentified_from":{"track":1,"distance":0.21,"gap_s":4.2,"moved":1.5}`: the previous track of the identity, the
cosine distance between the embeddings, the absence in seconds, and the distance moved in body heights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from motserve.errors import InvalidData
from motserve.results.formats import CONFIDENCE_DECIMALS, LINK_DECIMALS, PIXEL_DECIMALS, TIME_DECIMALS
from motserve.types import INTERPOLATED, NO_DETECTION, SOME_DETECTION, Link, TrackedFrame, Tracks

_MEASURED = "measured"
_ROWS = {"predicted": NO_DETECTION, "interpolated": INTERPOLATED, _MEASURED: SOME_DETECTION}
_STATES = {row: state for state, row in _ROWS.items()}


def encode_frame(frame: TrackedFrame, class_names: Mapping[int, str]) -> bytes:
    """Write a frame as a line of JSON, newline included.

    Args:
        frame: The tracks of one frame.
        class_names: Name of each class index that occurs.

    Raises:
        ValueError: A number is not finite or a class has no name.
    """
    tracks = frame.tracks
    # float64 first: 12.34 as float32 would be written as 12.34000015.
    boxes = np.round(tracks.boxes.astype(np.float64), PIXEL_DECIMALS) + 0.0  # + 0.0 turns -0.0 into 0.0
    scores = np.round(tracks.scores.astype(np.float64), CONFIDENCE_DECIMALS)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all() and np.isfinite(frame.timestamp)):
        raise ValueError(f"frame {frame.index} has a box, confidence or timestamp that is not a finite number")
    try:
        names = [class_names[index] for index in tracks.classes.tolist()]
    except KeyError as error:
        raise ValueError(f"frame {frame.index}: class {error.args[0]} has no name") from error
    states = [_STATES.get(row, _MEASURED) for row in tracks.detections.tolist()]
    rows = zip(
        frame.identities.tolist(), tracks.ids.tolist(), boxes.tolist(), scores.tolist(), names, states, strict=True
    )
    people: list[dict[str, Any]] = [
        {"id": identity, "track": track, "box": box, "confidence": score, "class": name, "state": state}
        for identity, track, box, score, name, state in rows
    ]
    for link in frame.links:
        person = next((person for person in people if person["track"] == link.track), None)
        if person is None or not np.isfinite([link.distance, link.gap_s, link.moved]).all():
            raise ValueError(f"frame {frame.index} has a link of track {link.track} without its row or its numbers")
        person["reidentified_from"] = {
            "track": link.previous_track,
            "distance": round(link.distance, LINK_DECIMALS),
            "gap_s": round(link.gap_s, LINK_DECIMALS),
            "moved": round(link.moved, LINK_DECIMALS),
        }
    record = {"frame": frame.index, "timestamp": round(float(frame.timestamp), TIME_DECIMALS), "tracks": people}
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def decode_frame(line: bytes, class_indices: Mapping[str, int], where: str) -> TrackedFrame:
    """Read a frame from a line of JSON.

    The line does not contain the detection of a track: `tracks.detections` is `SOME_DETECTION`, `NO_DETECTION` or
    `INTERPOLATED`.

    Args:
        line: The line.
        class_indices: Index of each class name that may occur.
        where: Name of the line in errors, such as `tracks.ndjson, line 3`.

    Raises:
        InvalidData: The line is not a frame.
    """
    try:
        record = orjson.loads(line)
        index, timestamp, rows = record["frame"], record["timestamp"], record["tracks"]
        if type(index) is not int or index < 0:
            raise ValueError(f"frame must be a whole number from 0 on, not {index!r}")
        count = len(rows)
        identities = np.array([row["id"] for row in rows], np.int64)
        tracks = Tracks(
            np.array([row["track"] for row in rows], np.int64),
            np.array([row["box"] for row in rows], np.float32).reshape(count, 4),
            np.array([row["confidence"] for row in rows], np.float32),
            np.array([class_indices[row["class"]] for row in rows], np.int64),
            np.array([_ROWS[row.get("state", _MEASURED)] for row in rows], np.int64),
        )
        links = tuple(_link(row) for row in rows if "reidentified_from" in row)
        timestamp = float(timestamp)
        if not (np.isfinite(timestamp) and np.isfinite(tracks.boxes).all() and np.isfinite(tracks.scores).all()):
            raise ValueError("a number is missing or not finite")
    except KeyError as error:
        raise InvalidData(f"{where}: {error.args[0]!r} is missing or unknown") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidData(f"{where}: not the tracks of a frame: {error}") from error
    return TrackedFrame(index, timestamp, tracks, identities, links)


def _link(row: Mapping[str, Any]) -> Link:
    source = row["reidentified_from"]
    distance, gap_s, moved = (float(source[key]) for key in ("distance", "gap_s", "moved"))
    if not np.isfinite([distance, gap_s, moved]).all():
        raise ValueError("a number of a link is not finite")
    return Link(int(row["track"]), int(row["id"]), int(source["track"]), distance, gap_s, moved)

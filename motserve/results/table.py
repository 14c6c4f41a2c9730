"""Tracks as the columns of a table, for data frames: the columns of the CSV export."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from motserve.results.export import CSV_HEADER

COLUMNS = tuple(CSV_HEADER.decode().strip().split(","))
"""Names of the columns, in order."""


def to_columns(lines: Iterable[bytes]) -> dict[str, list[Any]]:
    """Return stored lines as columns, a row for each track of each frame; None where a row has no value.

    Args:
        lines: Stored lines, as returned by `read_lines`.
    """
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    appends = [columns[name].append for name in COLUMNS]
    for line in lines:
        record = orjson.loads(line)
        for track in record["tracks"]:
            link = track.get("reidentified_from") or {}
            row = (
                record["frame"], record["timestamp"], track["id"], track["track"], track["class"],
                track["confidence"], *track["box"], track.get("state", "measured"),
                link.get("track"), link.get("distance"), link.get("gap_s"),
            )  # fmt: skip
            for append, value in zip(appends, row, strict=True):
                append(value)
    return columns

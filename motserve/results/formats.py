"""The export formats of tracks, and the precision of numbers, which is the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from motserve.choices import Format as Format

FORMATS: Final[tuple[Format, ...]] = get_args(Format)

MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "mot": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
}

SUFFIXES: Final[Mapping[Format, str]] = {"json": ".json", "ndjson": ".ndjson", "mot": ".txt", "csv": ".csv"}

# A hundredth of a pixel and a microsecond are finer than any detector or camera.
PIXEL_DECIMALS: Final = 2
CONFIDENCE_DECIMALS: Final = 4
TIME_DECIMALS: Final = 6
LINK_DECIMALS: Final = 4

"""What a tracker's state is made of: its table, the time, some numbers, and which tracker it belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from motserve.base import TrackerBase
from motserve.tracking.table import TrackTable

_ORIGIN = "tracker"
_TIMESTAMP = "timestamp"


def saved(
    tracker: TrackerBase, table: TrackTable, timestamp: float | None, **numbers: int
) -> dict[str, NDArray[np.generic]]:
    """Return a copy of a state.

    Args:
        tracker: Whose it is.
        table: Its tracks.
        timestamp: Time of the latest frame in seconds; None before the first.
        **numbers: Whole numbers that belong to it.
    """
    return {
        **table.to_arrays(),
        _ORIGIN: np.array(type(tracker).__name__),
        _TIMESTAMP: np.array(math.nan if timestamp is None else timestamp, np.float64),
        **{name: np.array(number, np.int64) for name, number in numbers.items()},
    }


def restored(
    state: Mapping[str, NDArray[np.generic]],
    tracker: TrackerBase,
    renew: Callable[[Mapping[str, NDArray[np.generic]]], TrackTable],
    *numbers: str,
) -> tuple[TrackTable, float | None, list[int]]:
    """Return what `saved` was given.

    Args:
        state: The state.
        tracker: Who is to take it over.
        renew: Makes the table.
        numbers: Names of the whole numbers.

    Raises:
        ValueError: Another tracker wrote it, or an array is missing or has another shape or type.
    """
    missing = {_ORIGIN, _TIMESTAMP, *numbers} - set(state)
    if missing:
        raise ValueError(f"state has no {sorted(missing)}; it was not written by this tracker")
    origin = str(np.asarray(state[_ORIGIN]).item())
    if origin != type(tracker).__name__:
        raise ValueError(f"state {_ORIGIN!r} is that of {origin}, not of {type(tracker).__name__}")
    timestamp = float(np.asarray(state[_TIMESTAMP]).item())
    found = [int(np.asarray(state[name]).item()) for name in numbers]
    return renew(state), None if math.isnan(timestamp) else timestamp, found

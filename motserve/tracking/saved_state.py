"""Saves and restores a tracker's state: its table, the time, some numbers, and the tracker's name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from motserve.base import TrackerBase
from motserve.tracking.track_table import TrackTable

_TRACKER = "tracker"
_TIMESTAMP = "timestamp"


def save_state(
    tracker: TrackerBase, table: TrackTable, timestamp: float | None, **numbers: int
) -> dict[str, NDArray[np.generic]]:
    """Return a copy of a tracker's state.

    Args:
        tracker: The tracker.
        table: Its tracks.
        timestamp: Time of the latest frame in seconds; None before the first.
        **numbers: Whole numbers that belong to the state.
    """
    return {
        **table.to_arrays(),
        _TRACKER: np.array(type(tracker).__name__),
        _TIMESTAMP: np.array(math.nan if timestamp is None else timestamp, np.float64),
        **{name: np.array(number, np.int64) for name, number in numbers.items()},
    }


def restore_state(
    state: Mapping[str, NDArray[np.generic]],
    tracker: TrackerBase,
    build_table: Callable[[Mapping[str, NDArray[np.generic]]], TrackTable],
    *numbers: str,
) -> tuple[TrackTable, float | None, list[int]]:
    """Return the table, time and numbers that `save_state` was given.

    Args:
        state: The state.
        tracker: The tracker that is to load the state.
        build_table: Builds the table from the state.
        numbers: Names of the whole numbers.

    Raises:
        ValueError: Another tracker wrote it, or an array is missing or has another shape or type.
    """
    missing = {_TRACKER, _TIMESTAMP, *numbers} - set(state)
    if missing:
        raise ValueError(f"state has no {sorted(missing)}; it was not written by this tracker")
    written_by = str(np.asarray(state[_TRACKER]).item())
    if written_by != type(tracker).__name__:
        raise ValueError(f"state {_TRACKER!r} is that of {written_by}, not of {type(tracker).__name__}")
    timestamp = float(np.asarray(state[_TIMESTAMP]).item())
    values = [int(np.asarray(state[name]).item()) for name in numbers]
    return build_table(state), None if math.isnan(timestamp) else timestamp, values

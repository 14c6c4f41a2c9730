"""Which tracker a saved state belongs to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from motserve.base import TrackerBase

_ORIGIN = "tracker"


def origin_of(tracker: TrackerBase) -> dict[str, NDArray[np.generic]]:
    """Return what a state says of the tracker that wrote it."""
    return {_ORIGIN: np.array(type(tracker).__name__)}


def check_origin(state: Mapping[str, NDArray[np.generic]], tracker: TrackerBase, *needed: str) -> None:
    """Refuse a state that a tracker cannot go on from.

    Args:
        state: The state.
        tracker: Who is to take it over.
        needed: Names that must be there.

    Raises:
        ValueError: Another tracker wrote it, or a name is missing.
    """
    missing = {_ORIGIN, *needed} - set(state)
    if missing:
        raise ValueError(f"state has no {sorted(missing)}; it was not written by this tracker")
    origin = str(np.asarray(state[_ORIGIN]).item())
    if origin != type(tracker).__name__:
        raise ValueError(f"state {_ORIGIN!r} is that of {origin}, not of {type(tracker).__name__}")

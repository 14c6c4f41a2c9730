"""Time between frames, in seconds and in the steps of a motion model."""

from __future__ import annotations

import math
from typing import Final

TOLERANCE_S: Final = 2e-3
"""Containers round timestamps, Matroska to a millisecond; a span of time may be off by that much at each end."""

# k / 30 s gives a whole number of steps only up to rounding; snapping keeps the filter equal to the reference.
_STEP_DECIMALS = 6
# The rate of the videos for which the reference's noises were chosen; used where a source does not know its rate.
_FALLBACK_RATE_HZ = 30.0
# Containers without a real rate declare their clock's, thousands of Hz.
_USABLE_RATES_HZ = (0.5, 480.0)


def usable_rate_hz(rate_hz: float | None) -> float:
    """Return a frame rate unchanged, or a fallback where it is missing or that of a container's clock."""
    low, high = _USABLE_RATES_HZ
    return rate_hz if rate_hz is not None and low <= rate_hz <= high else _FALLBACK_RATE_HZ


def steps_between(before: float | None, timestamp: float, steps_per_s: float) -> float:
    """Return the steps of a motion model between two frames.

    Args:
        before: Time of the previous frame in seconds; None for the first frame, which counts as one step.
        timestamp: Time of the frame in seconds.
        steps_per_s: Steps in a second.

    Raises:
        ValueError: The time is not finite or does not increase.
    """
    if not math.isfinite(timestamp):
        raise ValueError(f"timestamp is {timestamp}; it must be a finite number of seconds")
    if before is None:
        return 1.0
    if timestamp <= before:
        raise ValueError(f"timestamp {timestamp} s does not come after the previous frame, {before} s")
    return round((timestamp - before) * steps_per_s, _STEP_DECIMALS)

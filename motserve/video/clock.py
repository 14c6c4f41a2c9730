"""Repairs the timestamps of a file for the tracker: they start at zero and strictly increase."""

from __future__ import annotations

from collections import deque
from math import inf, isfinite, nextafter
from statistics import median_low

RESTART_S = 1.0
"""A larger step back in time is a restarted clock (joined recordings), not a timestamp out of order."""

MIN_STEP_S = 1e-6
"""Two frames closer than this have the same time, because results are in microseconds."""

LATEST_S = 3e9
"""Largest valid time, about a century; float64 represents microseconds up to it."""


class FrameClock:
    """Gives each frame its time in seconds from the first frame; good timestamps pass unchanged.

    Variable frame rates are kept. These faults are repaired:

    * some writers store decoding order as presentation time, so that the times of a file with B-frames jump back and
      forth while decoding times are even: the series that was out of order less often is used. Each is relative to
      its own first value, because decoding times are ahead by a constant;
    * a missing timestamp is one interval after the previous one. If the first frames have none, the first timestamp
      in the file is mapped to the time that its frame has by then;
    * a repeated or slightly earlier one is half an interval after the previous one, so that the next one still fits;
    * one that is earlier by more than a second, or later by more than `max_jump_s` or a century, is a restarted clock:
      it is one interval after the previous one, and later intervals are kept.

    The interval is the median of the latest valid ones, or the nominal one before there are any.

    >>> clock = FrameClock(0.1)
    >>> [round(clock.stamp(t), 3) for t in (5.0, 5.1, 5.1, 5.2, None, 5.45, 0.0, 0.2)]
    [0.0, 0.1, 0.15, 0.2, 0.3, 0.45, 0.55, 0.75]
    >>> clock = FrameClock(0.1)
    >>> [round(clock.stamp(*times), 3) for times in ((0.1, 0.0), (0.0, 0.2), (0.2, 0.3), (0.5, 0.4))]
    [0.0, 0.2, 0.3, 0.4]
    >>> clock = FrameClock(0.1, max_jump_s=10)
    >>> [round(clock.stamp(t), 3) for t in (None, None, 3600.0, 3600.1, 99999.0, 99999.1)]
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]

    Args:
        interval_s: Nominal time between two frames in seconds, greater than zero.
        max_jump_s: Longest step forward in seconds that is a pause and not a restarted clock, at least ten intervals.
            Raised, longer pauses are kept; lowered, more steps are removed.
        presentation_stored: Whether the container stores presentation times. If not, they are guesses, and decoding
            times are used.

    Attributes:
        repaired: Number of replaced timestamps, including those after a restart.
        restarts: Number of restarts of the clock.
    """

    def __init__(self, interval_s: float, max_jump_s: float = inf, presentation_stored: bool = True) -> None:
        if not (isfinite(interval_s) and interval_s > 0):
            raise ValueError(f"the interval between frames must be a positive number of seconds, got {interval_s}")
        self.repaired = 0
        self.restarts = 0
        self._steps = deque((interval_s,), maxlen=5)
        self._max_jump = max(max_jump_s, 10 * interval_s)
        self._last: float | None = None
        self._presentation = _Series()
        self._decoding = _Series()
        self._presentation_stored = presentation_stored

    def stamp(self, presentation: float | None, decoding: float | None = None) -> float:
        """Return the time of the next frame in display order.

        Args:
            presentation: Presentation time in the file, in seconds; None where it has none.
            decoding: Decoding time of the packet that completed the frame, in seconds; None where unknown.

        Returns:
            Seconds from the first frame.
        """
        self._presentation.add(presentation)
        self._decoding.add(decoding)
        interval = median_low(self._steps)
        following = 0.0 if self._last is None else self._last + interval
        time = self._choose().time(following)
        if time is None:
            time = following
            self.repaired += 1
        elif self._last is not None:
            if not (-RESTART_S <= time - self._last <= self._max_jump and time < LATEST_S):
                time = following
                self.repaired += 1
                self.restarts += 1
                self._presentation.origin = self._decoding.origin = None
            elif time < self._last + MIN_STEP_S:
                time = self._last + interval / (1 if presentation is None else 2)
                self.repaired += 1
            else:
                self._steps.append(time - self._last)
        if self._last is not None:
            time = max(time, nextafter(self._last, inf))  # for any timestamp in the file
        for series in (self._presentation, self._decoding):
            series.begin(time)
        self._last = time
        return time

    def _choose(self) -> _Series:
        presentation, decoding = self._presentation, self._decoding
        disordered = decoding.faults < presentation.faults or not self._presentation_stored
        if decoding.is_used and (disordered or presentation.value is None):
            return decoding
        return presentation


class _Series:
    """One of the two times of a file: its latest value, its origin, and how often it was out of order."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.origin: float | None = None
        self.is_used = False
        self._previous = -inf
        self._values = self._repeated = self._earlier = 0

    def add(self, value: float | None) -> None:
        self.value = value
        if value is not None:
            self.is_used = True
            self._values += 1
            self._repeated += value == self._previous
            self._earlier += value < self._previous
            self._previous = value

    @property
    def faults(self) -> int:
        """Number of steps back, plus repetitions if most values are repeated; a few repetitions are due to rounding."""
        return self._earlier + (self._repeated if 2 * self._repeated > self._values else 0)

    def time(self, following: float) -> float | None:
        """Return the time of the latest value: `following` before the series has an origin, None without a value."""
        if self.value is None:
            return None
        return following if self.origin is None else self.value - self.origin

    def begin(self, time: float) -> None:
        """Set the origin so that the latest value has this time, unless it is set already."""
        if self.origin is None and self.value is not None:
            self.origin = self.value - time

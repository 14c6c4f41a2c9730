"""Turns the timestamps that a file carries into ones a tracker can rely on: from zero, strictly increasing."""

from __future__ import annotations

from math import inf, isfinite

RESTART_S = 1.0
"""A step back in time of more than this is a clock that started anew (joined recordings), not a disordered stamp."""


class FrameClock:
    """Gives each frame its time in seconds from the first frame; good timestamps pass unchanged.

    Variable frame rate is kept. What is repaired, and how:

    * some writers store decoding order as presentation time, so that the times of a file with B-frames jump to and
      fro while decoding times run evenly: whichever of the two has been out of order less often is used;
    * a missing timestamp follows the one before by one nominal frame interval;
    * a repeated or slightly earlier one follows by half an interval, so that the next good one still fits;
    * one earlier by more than a second means the clock was restarted: it follows by one interval, and the
      intervals after it are kept.

    >>> clock = FrameClock(0.1)
    >>> [round(clock.stamp(t), 3) for t in (5.0, 5.1, 5.1, 5.2, None, 5.45, 0.0, 0.2)]
    [0.0, 0.1, 0.15, 0.2, 0.3, 0.45, 0.55, 0.75]
    >>> clock = FrameClock(0.1)
    >>> [round(clock.stamp(*times), 3) for times in ((0.1, 0.0), (0.0, 0.2), (0.2, 0.3), (0.5, 0.4))]
    [0.0, 0.1, 0.2, 0.3]

    Args:
        interval_s: Nominal time between two frames in seconds, greater than zero.

    Attributes:
        repaired: Number of timestamps that had to be made up.
    """

    def __init__(self, interval_s: float) -> None:
        if not (isfinite(interval_s) and interval_s > 0):
            raise ValueError(f"the interval between frames must be a positive number of seconds, got {interval_s}")
        self.repaired = 0
        self._interval = interval_s
        self._origin: float | None = None
        self._last = 0.0
        self._presentation = _Order()
        self._decoding = _Order()

    def stamp(self, presentation: float | None, decoding: float | None = None) -> float:
        """Return the time of the next frame in display order.

        Args:
            presentation: Presentation time in the file, in seconds; None where it has none.
            decoding: Decoding time of the packet that completed the frame, in seconds; None where unknown.

        Returns:
            Seconds from the first frame.
        """
        self._presentation.see(presentation)
        self._decoding.see(decoding)
        raw = presentation
        if raw is None or (self._decoding.seen and self._decoding.faults < self._presentation.faults):
            raw = decoding
        if self._origin is None:
            self._origin = raw if raw is not None else 0.0
            self.repaired += raw is None
            return 0.0
        if raw is None:
            time = self._last + self._interval
            self.repaired += 1
        else:
            time = raw - self._origin
            if time < self._last - RESTART_S:
                self._origin += time - self._last - self._interval
                time = self._last + self._interval
                self.repaired += 1
            elif time <= self._last:
                time = self._last + self._interval / 2
                self.repaired += 1
        self._last = time
        return time


class _Order:
    """Counts how often a series of times does not increase."""

    def __init__(self) -> None:
        self.faults = 0
        self.seen = False
        self._last = -inf

    def see(self, time: float | None) -> None:
        if time is not None:
            self.seen = True
            self.faults += time <= self._last
            self._last = time

"""The lines in which a training job says how far it is: one per epoch, and one per half minute within an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

Say: TypeAlias = Callable[[str], None]
"""Prints one line for the user."""

_QUIET_S: Final = 30.0
"""Longest silence in seconds; a longer one looks like a job that hangs."""


def quiet(_: str) -> None:
    """Print nothing."""


class ProgressLines:
    """Says how far one process is in the epochs of a job.

    Args:
        say: Prints a line.
        epochs: Epochs of the whole job.
        epoch: The last finished epoch of a job that is resumed; 0 before the first.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, say: Say, epochs: int, epoch: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._epochs = epochs
        self._before = epoch
        self._epoch = epoch
        self._clock = clock
        self._began = self._last = clock()

    def step(self, number: int, steps: Callable[[], int]) -> None:
        """Say how far the epoch is, unless there was a line in the last half minute.

        Args:
            number: Finished batches of the epoch.
            steps: Returns the number of all batches of the epoch; called for a line only.
        """
        if self._clock() - self._last >= _QUIET_S:
            self._print(f"epoch {self._epoch + 1}/{self._epochs}: batch {number}/{steps()}")

    def end_epoch(self, epoch: int, loss: float, score: tuple[str, float] | None = None) -> None:
        """Say that an epoch is finished, and how long the other epochs take if they take as long as those so far.

        Args:
            epoch: The epoch, counted from 1.
            loss: Mean loss of the epoch.
            score: Name and value of the validation score that decides which epoch is the best; None if this epoch was
                not validated.
        """
        self._epoch = epoch
        passed = self._clock() - self._began
        left = passed / (epoch - self._before) * (self._epochs - epoch)
        parts = [f"loss {loss:.4g}"]
        if score is not None:
            parts.append(f"{score[0]} {score[1]:.2f}")
        if epoch < self._epochs:
            parts.append(f"{duration(left)} left")
        self._print(f"epoch {epoch}/{self._epochs}: {', '.join(parts)}")

    def end_early(self, best: int) -> None:
        """Say that the training ends before its last epoch.

        Args:
            best: The best epoch.
        """
        self._print(f"training ends early: no epoch since epoch {best} is better")

    def _print(self, line: str) -> None:
        self._say(line)
        self._last = self._clock()


def duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration(7), duration(312), duration(7500)
    ('7 s', '5 min 12 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

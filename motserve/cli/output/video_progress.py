"""Shows how far a video is: a bar in a terminal, a line from time to time elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of frames done and the expected total, None where it is not known."""

LINE_EVERY_S: Final = 10.0
"""Seconds between two lines; a video that takes less time has none."""

_LEAST_S = 1e-9


class VideoProgress:
    """Progress of the steps of one video.

    Args:
        console: Where it is shown.
        bar: The bar; None for plain lines.
        is_quiet: Whether to show nothing.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, console: Console, bar: Progress | None, is_quiet: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._bar, self._is_quiet, self._clock = console, bar, is_quiet, clock

    def step(self, doing: str, name: str, unit: str = "frames") -> OnProgress:
        """Return the function that is told of the progress of a step.

        Args:
            doing: The step, such as `tracking`.
            name: Name of the video.
            unit: What is counted.
        """
        if self._is_quiet:
            return _ignore
        started = shown = self._clock()
        task = self._bar.add_task(f"{doing} {escape(name)}", total=None, speed="") if self._bar is not None else None

        def notify(done: int, total: int | None) -> None:
            nonlocal shown
            now = self._clock()
            speed = f"{done / max(now - started, _LEAST_S):.1f} {unit}/s"
            if self._bar is not None and task is not None:
                self._bar.update(task, completed=done, total=total, speed=speed if done else "")
            elif now - shown >= LINE_EVERY_S:
                shown = now
                of = f" of {total}" if total else ""
                line = f"{doing} {name}: {done}{of} {unit}, {speed}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)

        return notify


@contextmanager
def video_progress(console: Console, is_quiet: bool) -> Iterator[VideoProgress]:
    """Show the progress of one video until the block ends."""
    if is_quiet or not console.is_terminal:
        yield VideoProgress(console, None, is_quiet)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield VideoProgress(console, bar, is_quiet)


def _ignore(*_: int | None) -> None:
    pass

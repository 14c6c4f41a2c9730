"""The progress bar of commands that process several sequences; without a terminal it is not shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from motserve.cli.output.terminal import WholeConsole

if TYPE_CHECKING:
    from motserve.lab.experiments.detections import Progress as NotifyProgress

_console = WholeConsole(stderr=True)


@contextmanager
def sequence_progress(doing: str) -> Iterator[NotifyProgress]:
    """Show a bar for each sequence, from its first progress report to its last frame.

    Args:
        doing: Action that the bar names, such as `detecting`.

    Yields:
        Callback of progress: sequence name, frames done, total frames.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal) as bar:
        tasks = {}

        def notify_progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(f"{doing} {escape(name)}", total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield notify_progress

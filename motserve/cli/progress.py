"""The progress bar of commands that go through several sequences; none where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from motserve.lab.experiments.detections import Progress as Tell

_console = Console(stderr=True)


@contextmanager
def sequence_progress(doing: str) -> Iterator[Tell]:
    """Show a bar for each sequence, from the first word of it until its last frame.

    Args:
        doing: What is done to the sequences, such as `detecting`.

    Yields:
        What takes the word: name of the sequence, frames done, and of how many.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal) as bar:
        tasks = {}

        def tell(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(f"{doing} {escape(name)}", total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield tell

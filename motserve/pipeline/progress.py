"""Shows the progress of one video as a bar, where there is a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of frames done and the expected total, None where it is not known."""


@contextmanager
def showing_progress(title: str, progress: bool | OnProgress | None) -> Iterator[OnProgress]:
    """Yield the function that is told of progress.

    Args:
        title: Text before the bar.
        progress: None to show a bar in a terminal or a notebook, True or False to show it anywhere or nowhere, or a
            function to use instead.
    """
    if progress is False or callable(progress):
        yield progress or ignore
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    is_shown = bool(progress) or console.is_terminal or console.is_jupyter
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not is_shown) as bar:
        task = bar.add_task(escape(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def ignore(done: int, total: int | None) -> None:
    """Show nothing."""

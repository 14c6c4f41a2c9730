"""`motserve datasets`: prepares a downloaded data set for training and evaluation, and verifies it later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from motserve.choices import Dataset, Links
from motserve.cli.options import SequenceNames, names_of
from motserve.cli.output.terminal import WholeConsole, say_error

if TYPE_CHECKING:
    from motserve.lab.datasets import Manifest

app = typer.Typer(no_args_is_help=True, help="Prepare and verify data sets for training and evaluation.")
console = WholeConsole()
_errors = WholeConsole(stderr=True, soft_wrap=True)
_bars = WholeConsole(stderr=True)

_MOST_LINES = 20
_WITH_SEQUENCES: frozenset[Dataset] = frozenset({"mot17", "mot20"})


@app.command("prepare")
def prepare(
    kind: Annotated[Dataset, typer.Argument(help="Data set to prepare.")],
    source: Annotated[Path, typer.Argument(help="Folder of the unpacked download; it is only read.")],
    output: Annotated[Path, typer.Option(help="Folder for the prepared data set.")],
    links: Annotated[Links, typer.Option(help="How pictures are placed in the output.")] = "symlink",
    sequences: SequenceNames = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="If parts are missing, prepare the complete ones.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed that selects the held-out people (Re-ID).")] = 0,
    held_out_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the training people held out for validation (Re-ID).")
    ] = 0.1,
    checksum_pictures: Annotated[
        bool,
        typer.Option(
            "--checksum-pictures/--no-checksum-pictures",
            help="Checksum the content of every picture; otherwise only a change of size is noticed.",
        ),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of this command.")] = False,
) -> None:
    """Check a downloaded data set and write it in the layout that training and evaluation read."""
    from motserve.lab.datasets import PrepareOptions
    from motserve.lab.datasets import prepare as prepare_dataset

    if sequences is not None and kind not in _WITH_SEQUENCES:
        raise typer.BadParameter(f"{kind} has no sequences", param_hint="--sequences")
    names = tuple(names_of(sequences))
    options = PrepareOptions(links, names, allow_missing, seed, held_out_share, checksum_pictures, overwrite)
    with _progress("preparing") as progress:
        manifest = prepare_dataset(kind, source, output, options, progress)
    for sentence in manifest.left_out:
        _errors.print(f"[yellow]left out:[/] {escape(sentence)}", highlight=False)
    console.print(_table(manifest))
    console.print(escape(f"{output} is ready, sha256 {manifest.sha256}"), highlight=False, soft_wrap=True)


@app.command("verify")
def verify_command(
    folder: Annotated[Path, typer.Argument(help="A folder that `motserve datasets prepare` wrote.")],
) -> None:
    """Compare a prepared data set with its manifest and list files that changed, are missing or were added."""
    from motserve.lab.datasets import verify

    with _progress("verifying") as progress:
        changes = verify(folder, progress)
    if not changes:
        console.print(f"{escape(str(folder))} is unchanged since it was prepared", highlight=False, soft_wrap=True)
        return
    for change in changes[:_MOST_LINES]:
        console.print(escape(change), highlight=False, soft_wrap=True)
    if len(changes) > _MOST_LINES:
        console.print(f"and {len(changes) - _MOST_LINES} more", highlight=False)
    say_error(f"{folder} has changed since it was prepared: {len(changes)} differences; prepare it again")
    raise typer.Exit(3)


@contextmanager
def _progress(description: str) -> Iterator[Callable[[int, int], None]]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_bars,
        disable=not _bars.is_terminal,
    )
    with bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _table(manifest: Manifest) -> Table:
    """Return a table of counts with one column per split."""
    table = Table("", *manifest.counts)
    for row in dict.fromkeys(key for counts in manifest.counts.values() for key in counts):
        table.add_row(row, *(str(counts[row]) for counts in manifest.counts.values()))
    return table

"""Puts the commands together and turns errors into exit codes.

Exit codes: 0 done, 1 unexpected failure, 2 wrong usage or configuration, 3 input that cannot be used, 4 weights that
cannot be had, 5 a model that the gate refuses.
"""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from motserve import __version__, errors
from motserve.cli import (
    benchmark,
    calibrate,
    compare,
    config,
    datasets,
    demo,
    evaluate,
    models,
    runs,
    store,
    track,
    tune,
)

_EXIT_CODES: dict[type[errors.MotserveError], int] = {
    errors.InvalidConfig: 2,
    errors.InvalidVideo: 3,
    errors.InvalidData: 3,
    errors.NotFound: 3,
    errors.Conflict: 3,
    errors.IncompatibleStore: 3,
    errors.WeightsUnavailable: 4,
}


class _Commands(TyperGroup):
    """Says what went wrong in a line; a traceback is for defects only."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except errors.MotserveError as error:
            _say(str(error))
            raise typer.Exit(_EXIT_CODES.get(type(error), 1)) from error
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            _say(f"{error.filename2 or error.filename}: {error.strerror}")  # no space left, no right to write
            raise typer.Exit(1) from error


def _say(message: str) -> None:
    line = escape(" ".join(message.splitlines()))  # libraries give their reasons in several
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {line}", highlight=False)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Follow every person in a video and give each one identity that lasts.",
)
app.command("track")(track.track)
app.command("demo")(demo.demo)
app.command("runs")(runs.runs)
app.add_typer(models.app, name="models")
app.add_typer(store.app, name="store")
app.add_typer(config.app, name="config")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(compare.app, name="compare")
app.add_typer(tune.app, name="tune")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(datasets.app, name="datasets")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motserve {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Follow every person in a video and give each one identity that lasts."""

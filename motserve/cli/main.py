"""Assembles the commands and turns errors into exit codes.

Exit codes: 0 success, 1 unexpected failure, 2 wrong usage or configuration, 3 unusable input, 4 weights not available,
5 the promotion gate refuses a model.
"""

from __future__ import annotations

import errno
from typing import Any

import typer
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
from motserve.cli.paths import read_paths
from motserve.cli.terminal import accept_any_text, clean_up_when_ended, say_error

_EXIT_CODES: dict[type[errors.MotserveError], int] = {
    errors.InvalidConfig: 2,
    errors.MissingExtra: 2,
    errors.InvalidVideo: 3,
    errors.InvalidData: 3,
    errors.NotFound: 3,
    errors.Conflict: 3,
    errors.IncompatibleStore: 3,
    errors.WeightsUnavailable: 4,
}


class _Commands(TyperGroup):
    """Prints known errors on one line; only defects show a traceback."""

    def invoke(self, ctx: Any) -> Any:
        accept_any_text()
        clean_up_when_ended()
        try:
            return super().invoke(ctx)
        except errors.MotserveError as error:
            say_error(str(error))
            raise typer.Exit(_EXIT_CODES.get(type(error), 1)) from error
        except OSError as error:
            if (
                error.strerror is None or error.errno == errno.EPIPE
            ):  # the reader closed the pipe, which is not an error
                raise
            place = error.filename2 or error.filename
            say_error(
                f"{place}: {error.strerror}" if place else error.strerror
            )  # such as no space left, or no permission to write
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Track every person in a video and give each one a persistent identity.",
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
read_paths(app)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"motserve {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Track every person in a video and give each one a persistent identity."""

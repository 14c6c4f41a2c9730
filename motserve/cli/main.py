"""Assembles the commands and turns errors into exit codes.

Exit codes: 0 success, 1 unexpected failure, 2 wrong usage or configuration, 3 unusable input, 4 weights not available,
5 the promotion gate refuses a model.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, Final

import typer

from motserve import __version__, errors
from motserve.cli.exit_codes import exit_code_of
from motserve.cli.lazy import LazyGroup, Place
from motserve.cli.output.terminal import accept_any_text, clean_up_when_ended, say_error

COMMANDS: Final[Mapping[str, Place]] = {
    "track": Place("motserve.cli.track", "track", "Track every person in VIDEO."),
    "demo": Place(
        "motserve.cli.demo",
        "demo",
        "Render a clip, post it to the real service, score the tracks, write the annotated video.",
    ),
    "serve": Place("motserve.cli.running.serve", "serve", "Run the service until Ctrl-C."),
    "doctor": Place("motserve.cli.doctor", "doctor", "Say what works on this machine, and how to mend the rest."),
    "runs": Place("motserve.cli.runs", "runs", "List results that --mlflow logged."),
    "models": Place(
        "motserve.cli.models", "app", "Manage the weights of detector and embedder, and the registry of trained models."
    ),
    "store": Place("motserve.cli.store", "app", "Back up and restore the service's storage: jobs, videos, people."),
    "config": Place("motserve.cli.config", "app", "Show the configuration and its schema."),
    "benchmark": Place("motserve.cli.benchmark", "app", "Measure speed on this machine."),
    "evaluate": Place("motserve.cli.evaluate", "app", "Measure accuracy against ground truth."),
    "compare": Place("motserve.cli.compare", "app", "Compare candidates on your own data and machine."),
    "tune": Place("motserve.cli.tune", "app", "Search for the best parameters."),
    "calibrate": Place("motserve.cli.calibrate", "app", "Find settings that depend on a model, on labelled data."),
    "datasets": Place("motserve.cli.datasets", "app", "Prepare and verify data sets for training and evaluation."),
}


class _Commands(LazyGroup):
    """Prints known errors on one line; only defects show a traceback."""

    places = COMMANDS

    def invoke(self, ctx: Any) -> Any:
        accept_any_text()
        clean_up_when_ended()
        try:
            return super().invoke(ctx)
        except errors.MotserveError as error:
            say_error(str(error))
            raise typer.Exit(exit_code_of(error)) from error
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


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"motserve {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Track every person in a video and give each one a persistent identity."""

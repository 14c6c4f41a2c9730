"""`motserve compare`: detectors, trackers, embedders or policies side by side, on your own data and machine."""

from __future__ import annotations

import typer

from motserve.cli.compare.detectors import detectors
from motserve.cli.compare.identities import identities
from motserve.cli.compare.reid import reid
from motserve.cli.compare.trackers import trackers

app = typer.Typer(no_args_is_help=True, help="Compare candidates on your own data and machine.")


@app.callback()
def compare() -> None:
    """Compare candidates on your own data and machine."""


app.command("detectors")(detectors)
app.command("trackers")(trackers)
app.command("reid")(reid)
app.command("identities")(identities)

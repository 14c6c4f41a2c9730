"""`motserve benchmark`: speed of the components on this machine, beside other packages in the same run."""

from __future__ import annotations

import typer

from motserve.cli.benchmark.identities import identities
from motserve.cli.benchmark.reentry import reentry
from motserve.cli.benchmark.reid import reid
from motserve.cli.benchmark.serve import serve
from motserve.cli.benchmark.tracker import tracker

app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")


@app.callback()
def benchmark() -> None:
    """Measure speed on this machine."""


app.command("identities")(identities)
app.command("reentry")(reentry)
app.command("reid")(reid)
app.command("serve")(serve)
app.command("tracker")(tracker)

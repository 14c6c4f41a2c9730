"""`motserve evaluate`: accuracy of tracks, detections and embeddings against ground truth."""

from __future__ import annotations

import typer

from motserve.cli.evaluate.detection import detection
from motserve.cli.evaluate.mot import mot
from motserve.cli.evaluate.reid import reid

app = typer.Typer(no_args_is_help=True, help="Measure accuracy against ground truth.")


@app.callback()
def evaluate() -> None:
    """Measure accuracy against ground truth."""


app.command("mot")(mot)
app.command("reid")(reid)
app.command("detection")(detection)

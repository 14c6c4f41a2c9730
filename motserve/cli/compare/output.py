"""Output of every comparison: a table in the terminal, files, and runs in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from motserve.cli.options import writable_folder
from motserve.cli.output.tables import comparison_table
from motserve.cli.output.terminal import WholeConsole

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.compare.comparison import Comparison

OutputFolder = Annotated[
    Path,
    typer.Option("--output", help="Folder for table.md, results.json and plot.png.", callback=writable_folder),
]

_console = WholeConsole()


def conclude(
    comparison: Comparison, kind: str, settings: Config, provenance: Mapping[str, Any], folder: Path, mlflow: bool
) -> None:
    """Print a comparison, write its files and optionally log it.

    Args:
        comparison: The comparison.
        kind: Kind of run in MLflow, such as `trackers`.
        settings: The configuration; its section `mlflow` is used.
        provenance: The provenance stamp.
        folder: Folder for the files.
        mlflow: Log one MLflow run per candidate.
    """
    from motserve.lab.compare.report import write_comparison
    from motserve.lab.experiments.record import log_run

    folder.mkdir(parents=True, exist_ok=True)
    files = write_comparison(comparison, folder, provenance)
    _console.print(comparison_table(comparison))
    written = f"written to {escape(str(folder))}: {', '.join(file.name for file in files)}"
    _console.print(written, style="dim", highlight=False, soft_wrap=True)
    if mlflow:
        for candidate, metrics in comparison.metrics().items():
            run = log_run(settings.mlflow, kind, metrics, provenance, files, candidate)
            _console.print(f"MLflow run {run} {escape(candidate)}", style="dim", highlight=False)

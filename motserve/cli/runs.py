"""`motserve runs`: lists results that were logged to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from motserve.cli.options import ConfigFiles, JsonFile, Overrides, names_of, read_config
from motserve.cli.output.tables import number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import write_json

console = WholeConsole()

_PREFERRED = ("HOTA", "MOTA", "IDF1", "IDSW", "mAP50", "mAP50-95", "Rank-1", "mAP", "median_ms", "fps", "crop_ms")
_ID_DIGITS = 8
_MOST_METRICS = 5  # that fit beside the other columns


def runs(
    query: Annotated[
        str,
        typer.Option("--filter", help="MLflow filter, such as 'metrics.MOTA > 70' or 'metrics.`Rank-1` > 90'."),
    ] = "",
    order: Annotated[
        list[str] | None,
        typer.Option("--order-by", help="Order, such as 'metrics.HOTA DESC'; by default the latest first."),
    ] = None,
    most: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Maximum number of runs.")] = 20,
    metrics: Annotated[str | None, typer.Option(help="Metrics to show, separated by commas.")] = None,
    json: JsonFile = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """List results that --mlflow logged. MLflow holds ratios in per cent: 'metrics.MOTA > 70'."""
    from motserve.lab.experiments.record import find_runs

    settings = read_config(config, overrides)
    matching = find_runs(settings.mlflow, query, order or [], most)
    if not matching:
        console.print(f"no matching runs in experiment {escape(settings.mlflow.experiment)}", highlight=False)
    else:
        available = [name for name in _PREFERRED if any(name in run.metrics for run in matching)]
        shown = names_of(metrics) or available[:_MOST_METRICS]
        rows = []
        for run in matching:
            numbers = (_number(name, run.metrics) for name in shown)
            date = run.started.astimezone().strftime("%m-%d %H:%M")
            rows.append([run.tags.get("candidate", run.kind), date, run.kind, run.id[:_ID_DIGITS], *numbers])
        console.print(number_table(["run", "date", "kind", "ID", *shown], rows))
    if json is not None:
        write_json(json, [asdict(run) for run in matching])


def _number(name: str, metrics: Mapping[str, float]) -> str:
    from motserve.lab.evaluation import COUNT_NAMES

    if name not in metrics:
        return ""
    return f"{metrics[name]:.{0 if name.rpartition('/')[2] in COUNT_NAMES else 2}f}"

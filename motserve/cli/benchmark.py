"""`motserve benchmark`: how fast the parts are on this machine, beside their peers in the same run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from motserve.benchmark import tracker as tracker_benchmark
from motserve.cli.options import ConfigFiles, Overrides, read_config
from motserve.files import write_json
from motserve.provenance import stamp, write_stamp

app = typer.Typer(no_args_is_help=True, help="Speed, measured on this machine.")


@app.callback()
def benchmark() -> None:
    """Speed, measured on this machine."""


@app.command("tracker")
def tracker(
    people: Annotated[str, typer.Option(help="Sizes of crowd, separated by commas.")] = "30,100,300",
    frames: Annotated[int, typer.Option(min=1, help="Frames measured at each size.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the made-up detections.")] = 0,
    json: Annotated[Path | None, typer.Option(help="File for the rows.")] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Time one update of the tracker, beside Ultralytics' on the same detections."""
    settings = read_config(config, overrides)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
    rows = tracker_benchmark.run(_sizes(people), frames, seed, settings.tracker)
    table = Table("tracker", "people", "median ms", "p95 ms", "times faster")
    slowest = {size: max(row.median_ms for row in rows if row.people == size) for size in {r.people for r in rows}}
    for row in rows:
        faster = slowest[row.people] / row.median_ms
        table.add_row(row.tracker, str(row.people), f"{row.median_ms:.3f}", f"{row.p95_ms:.3f}", f"{faster:.1f}")
    Console().print(table)
    if json is not None:
        write_json(json, [asdict(row) for row in rows])
        write_stamp(json, stamp(settings))


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 30,100", param_hint="--people") from error
    if min(sizes) < 1:
        raise typer.BadParameter("a crowd has at least one person", param_hint="--people")
    return sizes

"""`motserve benchmark reid`: time per crop of each embedder on this machine."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from motserve.choices import ALL
from motserve.cli.compare.trackers import NO_PEERS
from motserve.cli.options import (
    CandidateWeights,
    ConfigFiles,
    JsonFile,
    Overrides,
    choose_candidates,
    names_of,
    read_config,
)
from motserve.cli.output.tables import NumberTable, number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.errors import InvalidConfig
from motserve.files.atomic import write_json

if TYPE_CHECKING:
    from motserve.lab.benchmark.embedder import EmbedderRow


def reid(
    embedders: Annotated[
        str, typer.Option(help="Backbones to time with random weights, separated by commas; `all` or `none`.")
    ] = ALL,
    weights: CandidateWeights = None,
    batches: Annotated[str, typer.Option(help="Batch sizes in crops, separated by commas.")] = "1,8,32",
    rounds: Annotated[int, typer.Option(min=1, help="Timed passes of each embedder, in turns.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the random crops.")] = 0,
    json: JsonFile = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Time embedders: the backbones of --embedders, and each file of --weights."""
    from motserve.config import change_config
    from motserve.lab.benchmark.embedder import run, untrained
    from motserve.lab.experiments.models import Models
    from motserve.models.provenance import stamp, write_stamp

    sizes = _sizes(batches)
    settings = change_config(read_config(config, overrides, writes=[json]), {"reid": {"batch_size": max(sizes)}})
    names = [] if embedders.strip() == NO_PEERS else names_of(embedders)
    if not names and not weights:
        raise InvalidConfig("there is nothing to time; name --embedders or --weights")
    contenders = untrained(None if ALL in names else names, settings.reid)
    used = {}
    if weights:
        for name, candidate in choose_candidates(settings, "reid", weights, None).items():
            models = Models(candidate)
            contenders[name], used[name] = models.embedder, models.reid_weights.describe()
    rows = run(contenders, sizes, rounds, seed)
    threads = _threads()
    WholeConsole().print(_table(rows, sizes, f"ms a crop, median of {rounds} passes, {threads} threads"))
    if json is not None:
        write_json(json, [asdict(row) for row in rows])
        notes = {"threads": threads, "rounds": rounds, "seed": seed}
        write_stamp(json, stamp(settings, weights=used, notes=notes, sections=["reid"]))


def _table(rows: list[EmbedderRow], sizes: list[int], title: str) -> NumberTable:
    headings = ["embedder", "M par.", "dimension", "crop", "device", *(f"batch {size}" for size in sizes)]
    cells = []
    for name, group in groupby(rows, key=lambda row: row.embedder):
        own = list(group)
        millions = "" if own[0].parameters is None else f"{own[0].parameters / 1e6:.1f}"
        crop = f"{own[0].crop_height}x{own[0].crop_width}"
        times = (f"{row.crop_ms:.2f}" for row in own)
        cells.append([name, millions, str(own[0].dimension), crop, own[0].device, *times])
    return number_table(headings, cells, title)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(size) for size in names_of(text)]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,8", param_hint="--batches") from error
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter("a batch has at least one crop", param_hint="--batches")
    return list(dict.fromkeys(sizes))


def _threads() -> int:
    import torch

    return torch.get_num_threads()

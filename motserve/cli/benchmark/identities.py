"""`motserve benchmark identities`: search time of the index of people across videos, by its size."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from motserve.cli.options import ConfigFiles, JsonFile, Overrides, read_config, sizes_of
from motserve.cli.output.tables import number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import write_json


def identities(
    count: Annotated[
        str, typer.Option("--identities", help="Numbers of identities in the index, separated by commas.")
    ] = "1000,10000",
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the synthetic people.")] = 0,
    json: JsonFile = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Time loading and searching an index of synthetic people."""
    from motserve.lab.benchmark import identities as identity_benchmark
    from motserve.models.provenance import stamp, write_stamp

    settings = read_config(config, overrides, writes=[json])
    rows = [identity_benchmark.run(size, settings.serving.identities, seed) for size in sizes_of(count, "--identities")]
    headings = ("identities", "embeddings", "load s", "search ms", "recall@10", "memory MB", "disk MB")
    cells = [
        (
            str(row.identities),
            str(row.embeddings),
            f"{row.load_s:.2f}",
            f"{row.search_ms:.2f}",
            f"{row.recall:.3f}",
            f"{row.memory_bytes / 1e6:.1f}",
            f"{row.disk_bytes / 1e6:.1f}",
        )
        for row in rows
    ]
    WholeConsole().print(number_table(headings, cells))
    if json is not None:
        write_json(json, [asdict(row) for row in rows])
        write_stamp(json, stamp(settings, libraries=["faiss-cpu"]))

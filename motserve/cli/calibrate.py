"""`motserve calibrate`: finds settings that depend on a model, on labelled data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from motserve.cli.labelled import MaybeGroundTruth, PeopleFile, Videos
from motserve.cli.options import ConfigFiles, JsonFile, Overrides, SequenceNames, names_of, read_config
from motserve.cli.output.progress import sequence_progress
from motserve.cli.output.tables import number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import write_json

console = WholeConsole()
app = typer.Typer(no_args_is_help=True, help="Find settings that depend on a model, on labelled data.")


@app.callback()
def calibrate() -> None:
    """Find settings that depend on a model, on labelled data."""


@app.command("reid")
def reid(
    root: Annotated[Path | None, typer.Option(help="Folder of crops, named as in Market-1501.")] = None,
    people: PeopleFile = None,
    gt: MaybeGroundTruth = None,
    videos: Videos = None,
    sequences: SequenceNames = None,
    json: JsonFile = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Find the largest embedding distance for a link, for each permitted share of false links."""
    from motserve.lab.evaluation.calibration import simulate_returns
    from motserve.lab.evaluation.reid_data import read_ids
    from motserve.lab.evaluation.sequences import find_truth
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.calibration import embeddings_in_folder, embeddings_in_videos
    from motserve.lab.experiments.models import Models
    from motserve.models.provenance import stamp

    if (root is None) == (gt is None):
        raise typer.BadParameter("give a folder of crops, or ground truth of videos with --gt", param_hint="--root")
    settings = read_config(config, overrides, writes=[json])
    models, cache = Models(settings), open_cache(settings)
    with sequence_progress("embedding") as notify_progress:
        if root is not None:
            labelled = embeddings_in_folder(root, read_ids(people) if people else None, models, cache, notify_progress)
        else:
            assert gt is not None
            labelled = embeddings_in_videos(
                find_truth(gt, names_of(sequences)), videos, settings, cache, notify_progress
            )
    rates = settings.evaluation.calibration.false_link_rates
    returns = simulate_returns(
        labelled.embeddings, labelled.identities, labelled.cameras, settings.reid, settings.evaluation.calibration
    )
    thresholds = {rate: returns.threshold(rate) for rate in rates}
    rows = [
        [f"{100 * rate:g}", "-", "-", "-"]
        if threshold is None
        else [
            f"{100 * rate:g}",
            f"{threshold.distance:.3f}",
            f"{100 * threshold.false_share:.2f}",
            f"{100 * threshold.found:.1f}",
        ]
        for rate, threshold in thresholds.items()
    ]
    headings = ["false links allowed, %", "reid.max_distance", "false links, %", "returns found, %"]
    console.print(number_table(headings, rows, models.reid_weights.describe()["name"]))
    false_reject_rate = settings.evaluation.calibration.false_reject_rate
    contradiction = returns.contradiction(false_reject_rate)
    console.print(
        f"reid.gallery.contradiction {contradiction:.3f}: {100 * false_reject_rate:g} % of a person's embeddings are "
        "farther from all earlier ones",
        highlight=False,
    )
    if json is not None:
        provenance = stamp(
            settings,
            weights={"reid": models.reid_weights.describe()},
            data=labelled.data,
            sections=["reid", "evaluation"],
        )
        document = {f"{rate:g}": threshold and asdict(threshold) for rate, threshold in thresholds.items()}
        write_json(json, {"thresholds": document, "contradiction": contradiction, "provenance": provenance})

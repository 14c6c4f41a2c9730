"""`motserve benchmark tracker`: time per frame of trackers, beside those of other packages in the same run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from motserve.choices import ALL, Benchmark
from motserve.cli.compare.output import OutputFolder, conclude
from motserve.cli.compare.trackers import COMPARED_SECTIONS, NO_PEERS, PeerNames, contenders_of
from motserve.cli.labelled import DetectionFiles, Rules, Scores, Videos, labelled_sequences, note, with_scores
from motserve.cli.options import ConfigFiles, JsonFile, Overrides, SequenceNames, names_of, read_config, sizes_of
from motserve.cli.output.progress import sequence_progress
from motserve.cli.output.terminal import WholeConsole
from motserve.errors import InvalidConfig
from motserve.files.atomic import write_json

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.benchmark.peers import MakePeer


def tracker(
    people: Annotated[
        str, typer.Option(help="Numbers of people in the synthetic crowd, separated by commas.")
    ] = "30,100,300",
    frames: Annotated[int, typer.Option(min=1, help="Timed frames per crowd size.")] = 300,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the synthetic detections.")] = 0,
    json: JsonFile = None,
    gt: Annotated[
        Path | None,
        typer.Option(help="Ground truth: measure accuracy and time on real sequences instead of a synthetic crowd."),
    ] = None,
    detections: DetectionFiles = None,
    scores: Scores = None,
    videos: Videos = None,
    sequences: SequenceNames = None,
    trackers: Annotated[
        str | None, typer.Option(help="With --gt: motserve's trackers, separated by commas; all of them by default.")
    ] = None,
    peers: PeerNames = NO_PEERS,
    every: Annotated[
        int, typer.Option(min=1, help="With --gt: use only every n-th frame, as at a lower frame rate.")
    ] = 1,
    rules: Rules = None,
    output: OutputFolder = Path("runs/benchmark/tracker"),
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Time one tracker update in a synthetic crowd, beside Ultralytics'; with --gt, trackers on real sequences."""
    from motserve.lab.benchmark import tracker as tracker_benchmark
    from motserve.models.provenance import stamp, write_stamp

    settings = with_scores(read_config(config, overrides, writes=[json if gt is None else output]), scores, detections)
    if gt is not None:
        _on_sequences(gt, detections, videos, sequences, trackers or ALL, peers, every, rules, output, settings)
        return
    if detections or videos or sequences or trackers or rules or every > 1:
        raise typer.BadParameter("options of sequences need their ground truth", param_hint="--gt")
    rows = tracker_benchmark.run(sizes_of(people, "--people"), frames, seed, settings.tracker, _chosen_peers(peers))
    baseline = tracker_benchmark.baseline(settings.tracker)
    table = Table(
        Column("tracker", no_wrap=True), "people", "median ms", "p95 ms", "times as fast", caption=f"as {baseline}"
    )
    reference = {row.people: row.median_ms for row in rows if row.tracker == baseline}
    for row in rows:
        faster = reference[row.people] / row.median_ms
        table.add_row(row.tracker, str(row.people), f"{row.median_ms:.3f}", f"{row.p95_ms:.3f}", f"{faster:.1f}")
    WholeConsole().print(table)
    if json is not None:
        write_json(json, [asdict(row) for row in rows])
        write_stamp(json, stamp(settings))


def _on_sequences(
    gt: Path,
    detections: Path | None,
    videos: Path | None,
    sequences: str | None,
    trackers: str,
    peers: str,
    every: int,
    rules: Benchmark | None,
    output: Path,
    settings: Config,
) -> None:
    from motserve.lab.benchmark.peers import LIBRARIES
    from motserve.lab.compare.trackers import compare_trackers, own_by_name, without_pictures
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.scoring import MOT_LIBRARIES
    from motserve.models.provenance import stamp
    from motserve.postprocessing import PostProcessor

    cache, models = open_cache(settings), Models(settings)
    configs = own_by_name(names_of(trackers), settings)
    loaded = [
        one.subsampled(every) for one in labelled_sequences(models, cache, gt, sequences, detections, videos, rules)
    ]
    without_video = [sequence.name for sequence in loaded if sequence.footage is None]
    if without_video:
        all_configs, configs = configs, without_pictures(configs)
        left_out = [name for name in all_configs if name not in configs]
        missing = (
            f"without pictures: there is no video of {', '.join(without_video)}; the camera is assumed to be static"
            f"{', left out: ' + ', '.join(left_out) if left_out else ''}; give --videos"
        )
        if not configs:
            raise InvalidConfig(missing)
        note(missing)
    contenders = contenders_of(configs, peers, settings, cache)
    with sequence_progress("tracking with") as notify_progress:
        comparison = compare_trackers(loaded, contenders, notify_progress, with_mean=True)
    provenance = stamp(
        settings,
        weights={
            "detector": None if detections else models.detector_weights.describe(),
            "reid": models.reid_weights.describe() if any(own.needs_embeddings for own in configs.values()) else None,
            **PostProcessor(settings).weights,
        },
        data={sequence.name: sequence.describe() for sequence in loaded},
        libraries=(*MOT_LIBRARIES, *LIBRARIES),
        notes={
            "every": every,
            "candidates": {
                name: own.model_dump(mode="json", include=set(COMPARED_SECTIONS)) for name, own in configs.items()
            },
        },
        sections=["video", "reid"] if detections else ["video", "reid", "detector"],
    )
    conclude(comparison, "trackers", settings, provenance, output, mlflow=False)


def _chosen_peers(text: str) -> dict[str, MakePeer]:
    from motserve.lab.benchmark.peers import available_peers

    if text.strip() == NO_PEERS:
        return {}
    known, names = available_peers(), names_of(text)
    if unknown := [name for name in names or () if name not in (*known, ALL)]:
        raise InvalidConfig(f"unknown tracker {', '.join(unknown)}; installed here are {', '.join(known)} and {ALL}")
    return {name: make for name, make in known.items() if name in names or ALL in names}

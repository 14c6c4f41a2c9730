"""`motserve evaluate mot`: CLEAR, Identity and HOTA of tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from motserve.cli.labelled import DetectionFiles, GroundTruth, Rules, Scores, Videos, announce_scores, with_scores
from motserve.cli.options import (
    ConfigFiles,
    JsonFile,
    Overrides,
    SequenceNames,
    UseMlflow,
    names_of,
    read_config,
    writable_folder,
)
from motserve.cli.output.progress import sequence_progress
from motserve.cli.output.tables import NumberTable, number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import write_json

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.evaluation.sequences import TruthFile
    from motserve.lab.experiments.mot import Evaluation

console = WholeConsole()


def mot(
    gt: GroundTruth,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Tracks: one file, or a folder of <sequence>.txt, .json, .ndjson or .csv. --run writes them."
        ),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Track the sequences first, as configured.")] = False,
    detections: DetectionFiles = None,
    scores: Scores = None,
    videos: Videos = None,
    benchmark: Rules = None,
    sequences: SequenceNames = None,
    json: JsonFile = None,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="Score with motmetrics too and show the differences.")
    ] = False,
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Score tracks by the rules of a MOTChallenge benchmark: CLEAR, Identity and HOTA."""
    from motserve.lab.evaluation import RATIO_NAMES
    from motserve.lab.evaluation.sequences import find_truth
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.mot import score_files, track_and_score
    from motserve.lab.experiments.record import log_run, percent
    from motserve.lab.experiments.scoring import MOT_LIBRARIES
    from motserve.models.provenance import stamp, write_stamp

    if results is None and not run:
        raise typer.BadParameter("give the tracks to score, or --run to make them", param_hint="--results")
    if not run and (detections or videos):
        raise typer.BadParameter(
            "--detections and --videos need --run, which tracks the sequences first", param_hint="--run"
        )
    settings = with_scores(read_config(config, overrides, writes=[results if run else None, json]), scores, detections)
    truths = find_truth(gt, names_of(sequences))
    if run and results is not None:
        _check_target(results, truths, detections)
    if results is not None and not run:
        evaluation = score_files(truths, results, benchmark, second_opinion)
    else:
        cache = open_cache(settings)
        with sequence_progress("detecting") as notify_progress:
            evaluation = track_and_score(
                truths, settings, cache, detections=detections, videos=videos, benchmark=benchmark,
                with_motmetrics=second_opinion, progress=notify_progress,
            )  # fmt: skip
        announce_scores({name: data["detections"] for name, data in evaluation.data.items()})
        if results is not None:
            written = evaluation.write_tracks(results)
    benchmarks = {name: task.rules.benchmark for name, task in evaluation.tasks.items()}
    provenance = stamp(
        settings,
        weights=evaluation.weights,
        data=evaluation.data,
        libraries=MOT_LIBRARIES,
        notes={"benchmarks": benchmarks, **({"tracks": evaluation.track_stamps} if evaluation.track_stamps else {})},
        sections=_sections(settings, detections) if run else (),
    )
    document = evaluation.scored.document(provenance)
    if json is not None:
        write_json(json, document)
    if run and results is not None:
        write_json(results / "scores.json", document)
        for tracks in written:
            write_stamp(tracks, provenance)
    for table in _tables(evaluation):
        console.print(table)
    rules = ", ".join(f"{name} {benchmark}" for name, benchmark in benchmarks.items())
    console.print(f"rules: {escape(rules)}", style="dim", highlight=False, soft_wrap=True)
    if second_opinion:
        console.print(_second_table(evaluation))
    if mlflow:
        metrics = percent(document["combined"], RATIO_NAMES)
        for name, scored in document["sequences"].items():
            metrics |= {f"{name}/{score}": value for score, value in percent(scored, RATIO_NAMES).items()}
        logged = log_run(settings.mlflow, "mot", metrics, provenance, [json] if json else [])
        console.print(f"MLflow run {logged}", style="dim", highlight=False)


def _sections(settings: Config, detections: Path | None) -> list[str]:
    """Return the configuration sections that affect the tracks."""
    reads_video = settings.needs_embeddings or settings.camera is not None or not detections
    postprocessing = ["regrouping", "linking", "interpolation"]
    return ["detector", "tracker", "reid", *postprocessing, *(["video"] if reads_video else [])]


def _check_target(results: Path, truths: Mapping[str, TruthFile], detections: Path | None) -> None:
    """Refuse an output folder that is not writable, or where tracks would replace ground truth or detections."""
    from motserve.lab.evaluation.sequences import find_results
    from motserve.results import SUFFIXES

    writable_folder(results)
    sources = {truth.path.resolve() for truth in truths.values()}
    sources |= {file.resolve() for file in find_results(detections, truths).values()} if detections else set()
    for name in truths:
        target = results / f"{name}{SUFFIXES['mot']}"
        if target.resolve() in sources:
            raise typer.BadParameter(
                f"{target} is ground truth or detections; choose another folder for the tracks", param_hint="--results"
            )


def _tables(evaluation: Evaluation) -> Iterator[NumberTable]:
    """Show ratios and counts in two tables: one is wider than most terminals."""
    from motserve.lab.evaluation import COUNT_NAMES, RATIO_NAMES
    from motserve.lab.evaluation.sequences import COMBINED

    scored = evaluation.scored
    for title, names in (("per cent", RATIO_NAMES), ("counts", COUNT_NAMES)):
        rows = [[name, *_cells(one.scores.as_dict(), names)] for name, one in scored.sequences.items()]
        if len(rows) > 1:
            rows.append([COMBINED, *_cells(scored.combined.scores.as_dict(), names)])
        yield number_table(["sequence", *names], rows, title)


def _second_table(evaluation: Evaluation) -> NumberTable:
    from motserve.lab.evaluation import RATIO_NAMES
    from motserve.lab.evaluation.second_opinion import COMPARED
    from motserve.lab.experiments.record import percent

    rows = []
    ratios = [name for name in COMPARED if name in RATIO_NAMES]
    for name, opinion in evaluation.scored.opinions.items():
        ours, theirs = percent(evaluation.scored.sequences[name].scores.as_dict(), ratios), percent(opinion, ratios)
        cells = []
        for score in COMPARED:
            digits = 2 if score in ratios else 0
            if not isfinite(theirs[score]):
                cells.append("-")
                continue
            difference = round(theirs[score] - ours[score], digits)
            cells.append(f"{theirs[score]:.{digits}f}" + (f" ({difference:+.{digits}f})" if difference else ""))
        rows.append([name, *cells])
    return number_table(["motmetrics", *COMPARED], rows, "second opinion, differences in brackets")


def _cells(scores: Mapping[str, float | int], names: Sequence[str]) -> list[str]:
    from motserve.lab.evaluation import RATIO_NAMES

    return [f"{100 * scores[name]:.2f}" if name in RATIO_NAMES else str(scores[name]) for name in names]

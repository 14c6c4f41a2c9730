"""`motserve evaluate detection`: average precision and recall of a detector."""

from __future__ import annotations

from math import isfinite

from rich.markup import escape

from motserve.cli.labelled import (
    DetectionFiles,
    MaybeGroundTruth,
    Rules,
    Scores,
    Split,
    Videos,
    YoloFile,
    announce_confidence,
    labelled_pictures,
    with_scores,
)
from motserve.cli.options import ConfigFiles, JsonFile, Overrides, SequenceNames, UseMlflow, read_config
from motserve.cli.output.tables import number_table
from motserve.cli.output.terminal import WholeConsole
from motserve.files.atomic import write_json

console = WholeConsole()


def detection(
    gt: MaybeGroundTruth = None,
    detections: DetectionFiles = None,
    scores: Scores = None,
    videos: Videos = None,
    data: YoloFile = None,
    split: Split = "val",
    benchmark: Rules = None,
    sequences: SequenceNames = None,
    json: JsonFile = None,
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Score the configured detector, or detection files: mAP50, mAP50-95, recall at fixed false positives."""
    from motserve.lab.evaluation.detection import DETECTION_COUNTS
    from motserve.lab.evaluation.sequences import COMBINED
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.pictures import DETECTION_LIBRARIES, for_scoring, score_pictures
    from motserve.lab.experiments.record import log_run, percent
    from motserve.models.provenance import stamp

    configured = with_scores(read_config(config, overrides, writes=[json]), scores, detections)
    settings = for_scoring(configured)
    announce_confidence(configured)
    models = Models(settings)
    parts = labelled_pictures(models, open_cache(settings), gt, data, split, sequences, detections, videos, benchmark)
    scored = {name: one.as_dict() for name, one in score_pictures(parts, settings).items()}
    weights = None if detections else models.detector_weights.describe()
    provenance = stamp(
        settings,
        weights={"detector": weights},
        data={part.name: part.data for part in parts},
        libraries=DETECTION_LIBRARIES,
        sections=["detector", "evaluation", "video"],
    )
    combined = scored.pop(COMBINED)
    ratios = [name for name in combined if name not in DETECTION_COUNTS]
    rows = []
    for name, row in {**scored, **({COMBINED: combined} if len(scored) > 1 else {})}.items():
        numbers = percent(row, ratios)
        rows.append([name, *(_cell(value, 1 if key in ratios else 0) for key, value in numbers.items())])
    console.print(number_table(["pictures", *combined], rows))
    if weights and weights["fallback"]:
        console.print(f"[yellow]{escape(weights['fallback'])}[/]", highlight=False)
    if json is not None:
        write_json(json, {"sequences": scored, "combined": combined, "provenance": provenance})
    if mlflow:
        metrics = percent(combined, ratios)
        for name, row in scored.items():
            metrics |= {f"{name}/{key}": value for key, value in percent(row, ratios).items()}
        run = log_run(settings.mlflow, "detection", metrics, provenance, [json] if json else [])
        console.print(f"MLflow run {run}", style="dim", highlight=False)


def _cell(value: float, digits: int) -> str:
    """Format a score; without ground truth there is none."""
    return f"{value:.{digits}f}" if isfinite(value) else "-"

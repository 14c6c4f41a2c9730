"""Options that say which labelled data a command works on, and the loading of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from motserve.cli.options import SequenceNames, names_of
from motserve.cli.progress import sequence_progress
from motserve.config import Config, DetectorConfig, change_config
from motserve.config.evaluation import ScoreScale
from motserve.errors import NotFound
from motserve.lab.evaluation import Benchmark
from motserve.lab.evaluation.score_scales import READINGS
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.pictures import LabelledPictures, detect_yolo, pictures_of
from motserve.lab.experiments.sequences import LabelledSequence, load_sequences

_notes = Console(stderr=True)


def _folder_there(path: Path | None) -> Path | None:
    """Refuse a mistyped folder; the videos beside the ground truth would be taken instead, without a word."""
    if path is not None and not path.is_dir():
        raise NotFound(f"there is no folder {path}")
    return path


GroundTruth = Annotated[
    Path, typer.Option("--gt", help="Ground truth: a folder of <sequence>/gt/gt.txt or <sequence>.txt; a file.")
]
MaybeGroundTruth = Annotated[
    Path | None, typer.Option("--gt", help="Ground truth: a folder of <sequence>/gt/gt.txt or <sequence>.txt; a file.")
]
DetectionFiles = Annotated[
    Path | None,
    typer.Option("--detections", help="MOTChallenge detections; without them the detector runs over the videos."),
]
Scores = Annotated[
    ScoreScale | None,
    typer.Option("--scores", help="With --detections: how scores become confidences; by default each file tells."),
]
Videos = Annotated[
    Path | None,
    typer.Option("--videos", help="Folder of the videos, where not beside the ground truth.", callback=_folder_there),
]
Rules = Annotated[
    Benchmark | None, typer.Option("--benchmark", help="Whose rules; by default each file tells by its columns.")
]
YoloFile = Annotated[Path | None, typer.Option("--data", help="YOLO data set, its data.yaml, instead of --gt.")]
Split = Annotated[str, typer.Option("--split", help="With --data: which split.")]


def note(text: str) -> None:
    """Say something on standard error that is no error."""
    _notes.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def announce_confidence(settings: Config) -> None:
    """Say that a confidence that was set has no part in average precision."""
    if settings.detector.confidence != DetectorConfig().confidence:
        note(
            f"detector.confidence={settings.detector.confidence:g} has no part in average precision, which is measured "
            f"down to evaluation.detection_confidence={settings.evaluation.detection_confidence:g}"
        )


def with_scores(settings: Config, scores: Scores, detections: DetectionFiles) -> Config:
    """Return the configuration that reads scores of detections as an option says.

    Raises:
        typer.BadParameter: There are no files of detections.
    """
    if scores is None:
        return settings
    if detections is None:
        raise typer.BadParameter("--scores goes with --detections", param_hint="--scores")
    return change_config(settings, {"evaluation": {"detection_scores": scores}})


def announce_scores(sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Say how scores of files of detections that are no confidences are read.

    Args:
        sources: What the stamp says of the detections, by the name of the sequence.
    """
    for scale, reading in READINGS.items():
        ranges = {
            name: source["score_range"]
            for name, source in sources.items()
            if source.get("scores") == scale and "score_range" in source
        }
        if ranges:
            low, high = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
            note(
                f"scores of {', '.join(ranges)} go from {low:g} to {high:g} and are {reading} ({scale}); --scores "
                "chooses another way"
            )


def labelled_sequences(
    models: Models,
    cache: Cache,
    gt: Path,
    sequences: SequenceNames = None,
    detections: DetectionFiles = None,
    videos: Videos = None,
    benchmark: Rules = None,
) -> list[LabelledSequence]:
    """Load sequences, with a progress bar while the detector runs; see `load_sequences`."""
    truths = find_truth(gt, names_of(sequences))
    with sequence_progress("detecting") as tell:
        loaded = load_sequences(
            truths, models, cache, detections=detections, videos=videos, benchmark=benchmark, progress=tell
        )
    announce_scores({sequence.name: sequence.detected.source for sequence in loaded})
    return loaded


def labelled_pictures(
    models: Models,
    cache: Cache,
    gt: MaybeGroundTruth,
    data: YoloFile,
    split: Split,
    sequences: SequenceNames = None,
    detections: DetectionFiles = None,
    videos: Videos = None,
    benchmark: Rules = None,
) -> list[LabelledPictures]:
    """Load pictures from sequences or from a YOLO data set.

    Raises:
        typer.BadParameter: Not exactly one of both is given.
    """
    if (gt is None) == (data is None):
        raise typer.BadParameter("give the ground truth of sequences or the data.yaml of a data set", param_hint="--gt")
    if gt is not None:
        loaded = labelled_sequences(models, cache, gt, sequences, detections, videos, benchmark)
        return [pictures_of(sequence) for sequence in loaded]
    assert data is not None
    if detections or videos or sequences or benchmark:
        raise typer.BadParameter(
            "--detections, --videos, --sequences and --benchmark go with --gt", param_hint="--data"
        )
    with sequence_progress("detecting in") as tell:
        return [detect_yolo(data, split, models, cache, tell)]

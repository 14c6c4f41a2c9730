"""Options that say which labelled data a command works on, and the loading of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motserve.cli.options import SequenceNames, names_of
from motserve.cli.progress import sequence_progress
from motserve.config import Config, DetectorConfig
from motserve.errors import NotFound
from motserve.evaluation import Benchmark
from motserve.evaluation.sequences import find_truth
from motserve.experiments.cache import Cache
from motserve.experiments.models import Models
from motserve.experiments.pictures import LabelledPictures, detect_yolo, pictures_of
from motserve.experiments.sequences import LabelledSequence, load_sequences

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
        return load_sequences(
            truths, models, cache, detections=detections, videos=videos, benchmark=benchmark, progress=tell
        )


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

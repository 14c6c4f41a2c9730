"""Options that select the labelled data of a command, and the functions that load it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motserve.choices import Benchmark, Protocol, ScoreScale
from motserve.cli.options import SequenceNames, names_of
from motserve.cli.output.progress import sequence_progress
from motserve.cli.output.terminal import WholeConsole
from motserve.errors import NotFound

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.experiments.cache import Cache
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.pictures import LabelledPictures
    from motserve.lab.experiments.sequences import LabelledSequence

_notes = WholeConsole(stderr=True)


def _existing_folder(path: Path | None) -> Path | None:
    """Refuse a folder that does not exist; the videos beside the ground truth would silently be used instead."""
    if path is not None and not path.is_dir():
        raise NotFound(f"there is no folder {path}")
    return path


_GROUND_TRUTH = typer.Option(
    "--gt", help="Ground truth: one file, or a folder of <sequence>/gt/gt.txt or <sequence>.txt."
)

GroundTruth = Annotated[Path, _GROUND_TRUTH]
MaybeGroundTruth = Annotated[Path | None, _GROUND_TRUTH]
DetectionFiles = Annotated[
    Path | None,
    typer.Option(
        "--detections", help="File or folder of MOTChallenge detections; without it the detector runs over the videos."
    ),
]
Scores = Annotated[
    ScoreScale | None,
    typer.Option(
        "--scores", help="With --detections: how scores become confidences; by default detected from each file."
    ),
]
Videos = Annotated[
    Path | None,
    typer.Option(
        "--videos", help="Folder of the videos, if they are not beside the ground truth.", callback=_existing_folder
    ),
]
Rules = Annotated[
    Benchmark | None,
    typer.Option("--benchmark", help="Benchmark whose rules apply; by default detected from the columns of each file."),
]
YoloFile = Annotated[Path | None, typer.Option("--data", help="The data.yaml of a YOLO data set, instead of --gt.")]
Split = Annotated[str, typer.Option("--split", help="With --data: split of the data set.")]
CropDataset = Annotated[Path, typer.Option("--root", help="Folder of a data set of crops.")]
MaybeCropDataset = Annotated[
    Path | None, typer.Option("--root", help="For an embedder: folder of a data set of crops.")
]
CropProtocol = Annotated[
    Protocol, typer.Option("--protocol", help="Layout of the data set of crops and its query/gallery protocol.")
]
PeopleFile = Annotated[
    Path | None, typer.Option("--people", help="With crops: file of the IDs of the people to use, one per line.")
]


def note(text: str) -> None:
    """Print a note on standard error."""
    _notes.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def announce_confidence(settings: Config) -> None:
    """Note that a configured detector confidence does not affect average precision."""
    from motserve.config import DetectorConfig

    if settings.detector.confidence != DetectorConfig().confidence:
        note(
            f"detector.confidence={settings.detector.confidence:g} does not affect average precision, which is "
            f"measured down to evaluation.detection_confidence={settings.evaluation.detection_confidence:g}"
        )


def with_scores(settings: Config, scores: Scores, detections: DetectionFiles) -> Config:
    """Return the configuration with the scale of detection scores that `--scores` names.

    Raises:
        typer.BadParameter: `--scores` is given without `--detections`.
    """
    from motserve.config import change_config

    if scores is None:
        return settings
    if detections is None:
        raise typer.BadParameter("--scores goes with --detections", param_hint="--scores")
    return change_config(settings, {"evaluation": {"detection_scores": scores}})


def announce_scores(sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Note how the scores of detection files are converted where they are not confidences.

    Args:
        sources: Provenance of the detections of each sequence, by sequence name.
    """
    from motserve.lab.evaluation.score_scales import READINGS

    for scale, reading in READINGS.items():
        ranges = {
            name: source["score_range"]
            for name, source in sources.items()
            if source.get("scores") == scale and "score_range" in source
        }
        if ranges:
            low, high = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
            note(
                f"scores of {', '.join(ranges)} range from {low:g} to {high:g} and are {reading} ({scale}); "
                "--scores selects another conversion"
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
    from motserve.lab.evaluation.sequences import find_truth
    from motserve.lab.experiments.sequences import load_sequences

    truths = find_truth(gt, names_of(sequences))
    with sequence_progress("detecting") as notify_progress:
        loaded = load_sequences(
            truths, models, cache, detections=detections, videos=videos, benchmark=benchmark, progress=notify_progress
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
    """Load labelled pictures from sequences (`--gt`) or from a YOLO data set (`--data`).

    Raises:
        typer.BadParameter: Both or neither are given, or an option of `--gt` is given with `--data`.
    """
    from motserve.lab.experiments.pictures import detect_yolo, pictures_of

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
    with sequence_progress("detecting in") as notify_progress:
        return [detect_yolo(data, split, models, cache, notify_progress)]

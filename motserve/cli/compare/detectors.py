"""`motserve compare detectors`: accuracy, speed and size of detectors on the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motserve.cli.compare.output import OutputFolder, conclude
from motserve.cli.labelled import (
    MaybeGroundTruth,
    Rules,
    Split,
    Videos,
    YoloFile,
    announce_confidence,
    labelled_pictures,
)
from motserve.cli.options import (
    CandidatesFile,
    CandidateWeights,
    ConfigFiles,
    Overrides,
    SequenceNames,
    UseMlflow,
    choose_candidates,
    read_config,
)

if TYPE_CHECKING:
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.pictures import LabelledPictures


def detectors(
    gt: MaybeGroundTruth = None,
    videos: Videos = None,
    data: YoloFile = None,
    split: Split = "val",
    weights: CandidateWeights = None,
    candidates: CandidatesFile = None,
    benchmark: Rules = None,
    sequences: SequenceNames = None,
    output: OutputFolder = Path("runs/compare/detectors"),
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Compare detectors: give --weights for each, or --candidates that also differ in other settings."""
    from motserve.lab.compare.detectors import compare_detectors
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.pictures import DETECTION_LIBRARIES
    from motserve.models.provenance import stamp

    settings = read_config(config, overrides, writes=[output])
    cache = open_cache(settings)
    configs = choose_candidates(settings, "detector", weights, candidates)
    for one in configs.values():
        announce_confidence(one)
    described: dict[str, Mapping[str, Any]] = {}

    def detect(models: Models) -> Sequence[LabelledPictures]:
        parts = labelled_pictures(models, cache, gt, data, split, sequences, None, videos, benchmark)
        described.update({part.name: part.data for part in parts})
        return parts

    comparison, used = compare_detectors(configs, detect)
    provenance = stamp(
        settings,
        weights=used,
        data=described,
        libraries=DETECTION_LIBRARIES,
        notes={"candidates": {name: one.detector.model_dump(mode="json") for name, one in configs.items()}},
        sections=["evaluation", "video"],
    )
    conclude(comparison, "detectors", settings, provenance, output, mlflow)

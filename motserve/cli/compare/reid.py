"""`motserve compare reid`: accuracy, speed and size of embedders on the same crops."""

from __future__ import annotations

from pathlib import Path

from motserve.cli.compare.output import OutputFolder, conclude
from motserve.cli.labelled import CropDataset, CropProtocol
from motserve.cli.options import (
    CandidatesFile,
    CandidateWeights,
    ConfigFiles,
    Overrides,
    Rerank,
    UseMlflow,
    choose_candidates,
    read_config,
)
from motserve.cli.output.progress import sequence_progress


def reid(
    root: CropDataset,
    protocol: CropProtocol,
    weights: CandidateWeights = None,
    candidates: CandidatesFile = None,
    rerank: Rerank = False,
    output: OutputFolder = Path("runs/compare/reid"),
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Compare embedders: give --weights for each, or --candidates that also differ in other settings."""
    from motserve.lab.compare.embedders import compare_embedders
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.crops import load_crops
    from motserve.models.provenance import stamp

    settings = read_config(config, overrides, writes=[output])
    configs = choose_candidates(settings, "reid", weights, candidates)
    crops = load_crops(root, protocol)
    with sequence_progress("embedding") as notify_progress:
        comparison, used = compare_embedders(crops, configs, open_cache(settings), rerank, notify_progress)
    provenance = stamp(
        settings,
        weights=used,
        data=crops.data,
        notes={
            "protocol": protocol,
            "candidates": {name: one.reid.model_dump(mode="json") for name, one in configs.items()},
        },
        sections=["evaluation"],
    )
    conclude(comparison, "reid", settings, provenance, output, mlflow)

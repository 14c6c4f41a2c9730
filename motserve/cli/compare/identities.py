"""`motserve compare identities`: re-identification policies on the same detections."""

from __future__ import annotations

from pathlib import Path

import typer

from motserve.cli.compare.output import OutputFolder, conclude
from motserve.cli.labelled import DetectionFiles, GroundTruth, Rules, Scores, Videos, labelled_sequences, with_scores
from motserve.cli.options import ConfigFiles, Overrides, Policies, SequenceNames, UseMlflow, names_of, read_config
from motserve.cli.output.progress import sequence_progress


def identities(
    gt: GroundTruth,
    policies: Policies = "off,on_demand,always",
    detections: DetectionFiles = None,
    scores: Scores = None,
    videos: Videos = None,
    sequences: SequenceNames = None,
    rules: Rules = None,
    output: OutputFolder = Path("runs/compare/identities"),
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Compare re-identification policies: identity scores, right and wrong links, and number of embeddings."""
    from motserve.lab.compare.identities import compare_identities, policies_of
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.scoring import MOT_LIBRARIES
    from motserve.models.provenance import stamp

    settings = with_scores(read_config(config, overrides, writes=[output]), scores, detections)
    candidates = policies_of(names_of(policies), settings)
    if not candidates:
        raise typer.BadParameter("name at least one policy", param_hint="--policies")
    models, cache = Models(settings), open_cache(settings)
    loaded = labelled_sequences(models, cache, gt, sequences, detections, videos, rules)
    with sequence_progress("tracking with") as notify_progress:
        comparison = compare_identities(loaded, candidates, cache, notify_progress)
    uses_embeddings = any(candidate.needs_embeddings for candidate in candidates.values())
    provenance = stamp(
        settings,
        weights={
            "detector": None if detections else models.detector_weights.describe(),
            "reid": models.reid_weights.describe() if uses_embeddings else None,
        },
        data={sequence.name: sequence.describe() for sequence in loaded},
        libraries=MOT_LIBRARIES,
        notes={"policies": list(candidates)},
        sections=[
            "tracker",
            "reid",
            "regrouping",
            "linking",
            "interpolation",
            "video",
            *([] if detections else ["detector"]),
        ],
    )
    conclude(comparison, "identities", settings, provenance, output, mlflow)

"""`motserve compare trackers`: accuracy and time of trackers on the same detections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motserve.cli.compare.output import OutputFolder, conclude
from motserve.cli.labelled import (
    DetectionFiles,
    GroundTruth,
    Rules,
    Scores,
    Videos,
    labelled_sequences,
    note,
    with_scores,
)
from motserve.cli.options import (
    CandidatesFile,
    ConfigFiles,
    Overrides,
    SequenceNames,
    UseMlflow,
    names_of,
    read_candidates,
    read_config,
)
from motserve.cli.output.progress import sequence_progress
from motserve.errors import InvalidConfig

if TYPE_CHECKING:
    from motserve.config import Config
    from motserve.lab.compare.trackers import RunTracker
    from motserve.lab.experiments.cache import Cache

PeerNames = Annotated[
    str, typer.Option("--peers", help="Trackers of other packages, separated by commas; `all` or `none`.")
]
NO_PEERS = "none"
COMPARED_SECTIONS = ("tracker", "reid", "regrouping", "linking", "interpolation")


def trackers(
    gt: GroundTruth,
    detections: DetectionFiles = None,
    scores: Scores = None,
    videos: Videos = None,
    peers: PeerNames = "all",
    candidates: CandidatesFile = None,
    benchmark: Rules = None,
    sequences: SequenceNames = None,
    output: OutputFolder = Path("runs/compare/trackers"),
    mlflow: UseMlflow = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
) -> None:
    """Compare trackers: motserve's as configured, without and with identities, and those of other packages."""
    from motserve.lab.benchmark.peers import LIBRARIES
    from motserve.lab.compare.trackers import compare_trackers, own_variants
    from motserve.lab.experiments.cache import open_cache
    from motserve.lab.experiments.models import Models
    from motserve.lab.experiments.scoring import MOT_LIBRARIES
    from motserve.models.provenance import stamp
    from motserve.postprocessing import PostProcessor

    settings = with_scores(read_config(config, overrides, writes=[output]), scores, detections)
    cache, models = open_cache(settings), Models(settings)
    loaded = labelled_sequences(models, cache, gt, sequences, detections, videos, benchmark)
    configs = read_candidates(candidates, settings, COMPARED_SECTIONS) if candidates else own_variants(settings, loaded)
    without_video = [sequence.name for sequence in loaded if sequence.footage is None]
    if without_video and not candidates and settings.reid.policy != "off":
        note(f"without identities: there is no video of {', '.join(without_video)}; give --videos")
    contenders = contenders_of(configs, peers, settings, cache)
    with sequence_progress("tracking with") as notify_progress:
        comparison = compare_trackers(loaded, contenders, notify_progress)
    provenance = stamp(
        settings,
        weights={
            "detector": None if detections else models.detector_weights.describe(),
            **{
                f"reid of {name}": Models(own).reid_weights.describe()
                for name, own in configs.items()
                if own.needs_embeddings
            },
            **{
                f"linking of {name}": PostProcessor(own).weights["linking"]
                for name, own in configs.items()
                if own.linking
            },
        },
        data={sequence.name: sequence.describe() for sequence in loaded},
        libraries=(*MOT_LIBRARIES, *LIBRARIES),
        notes={
            "candidates": {
                name: own.model_dump(mode="json", include=set(COMPARED_SECTIONS)) for name, own in configs.items()
            }
        },
        sections=["video"] if detections else ["video", "detector"],
    )
    conclude(comparison, "trackers", settings, provenance, output, mlflow)


def contenders_of(configs: Mapping[str, Config], peers: str, settings: Config, cache: Cache) -> dict[str, RunTracker]:
    """Return motserve's own candidates and the chosen trackers of other packages.

    Raises:
        InvalidConfig: A peer is unknown, or a candidate has the name of a peer.
    """
    from motserve.lab.compare.trackers import own_candidates, peer_candidates

    contenders = own_candidates(configs, cache)
    others = {} if peers.strip() == NO_PEERS else peer_candidates(names_of(peers), settings)
    if twice := contenders.keys() & others.keys():
        raise InvalidConfig(
            f"a candidate has the name of another package's tracker, {', '.join(sorted(twice))}; rename the candidate"
        )
    return contenders | others

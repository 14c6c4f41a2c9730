"""Scores existing tracks, or tracks first and then scores: the two modes of `motserve evaluate mot`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motserve.config import Config
from motserve.files.atomic import replacing
from motserve.lab.evaluation import Benchmark, rules_for
from motserve.lab.evaluation.sequences import TruthFile, find_results
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.detections import Progress, silent
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.scoring import ScoredSet, Task, score_set
from motserve.lab.experiments.sequences import LabelledSequence, load_sequences, track_sequence
from motserve.models.provenance import describe_files, stamp_of
from motserve.postprocessing import PostProcessor
from motserve.results import SUFFIXES, encode_frame, export, read_mot, read_tracks, to_table
from motserve.types import TrackedFrame


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores and their provenance.

    Attributes:
        scored: The scores.
        tasks: Ground truth and tracks that were scored, by sequence name.
        data: Checksums of ground truth, tracks and detections, by sequence name.
        weights: The weights used; empty if no network was run.
        tracks: Tracks of this run in MOTChallenge text, by sequence name.
        track_stamps: Provenance stamps of tracks that were read, by sequence name, if they have one.
    """

    scored: ScoredSet
    tasks: Mapping[str, Task]
    data: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    tracks: Mapping[str, bytes] = field(default_factory=dict)
    track_stamps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def write_tracks(self, folder: Path) -> list[Path]:
        """Write `<sequence>.txt` for each sequence that was tracked, and return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{name}{SUFFIXES['mot']}" for name in self.tracks]
        for file, text in zip(files, self.tracks.values(), strict=True):
            with replacing(file) as partial:
                partial.write_bytes(text)
        return files


def score_files(
    truths: Mapping[str, TruthFile], results: Path, benchmark: Benchmark | None = None, with_motmetrics: bool = False
) -> Evaluation:
    """Score tracks in files.

    Args:
        truths: Ground truth by sequence name.
        results: Folder or file of the tracks.
        benchmark: Benchmark whose rules apply; None to detect it from each file.
        with_motmetrics: Score with motmetrics as well.

    Raises:
        NotFound: A file is missing.
        InvalidData: A file is malformed; the message names file and line.
    """
    files = find_results(results, list(truths))
    tasks = {}
    for name, truth in truths.items():
        people = read_mot(truth.path)
        tasks[name] = Task(people, read_tracks(files[name]), rules_for(name, people, benchmark), truth.frames)
    data = {
        name: {"ground_truth": describe_files([truth.path]), "results": describe_files([files[name]])}
        for name, truth in truths.items()
    }
    stamps = {name: found for name, file in files.items() if (found := stamp_of(file)) is not None}
    return Evaluation(score_set(tasks, with_motmetrics), tasks, data, track_stamps=stamps)


def track_and_score(
    truths: Mapping[str, TruthFile],
    config: Config,
    cache: Cache,
    *,
    detections: Path | None = None,
    videos: Path | None = None,
    benchmark: Benchmark | None = None,
    with_motmetrics: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Track sequences as configured and score the tracks.

    Args:
        truths: Ground truth by sequence name.
        config: The configuration.
        cache: Cache of detections and embeddings.
        detections: Folder or file of MOTChallenge detections; None to run the detector over the videos.
        videos: Folder of the videos, if they are not beside the ground truth.
        benchmark: Benchmark whose rules apply; None to detect it from each file.
        with_motmetrics: Score with motmetrics as well.
        progress: Called with the progress of detection.

    Raises:
        MotserveError: Data or weights are missing or not valid; see `load_sequences`.
    """
    models, linking_weights = Models(config), PostProcessor(config).weights
    sequences = load_sequences(
        truths, models, cache, detections=detections, videos=videos, benchmark=benchmark, progress=progress
    )
    tasks, tracks = {}, {}
    for sequence in sequences:
        frames = track_sequence(sequence, config, cache).frames
        table = to_table(frames, sequence.name, sequence.detected.class_names)
        tasks[sequence.name] = Task(sequence.table, table, sequence.rules, len(sequence.detected))
        tracks[sequence.name] = b"".join(export(_lines(frames, sequence), "mot", name=sequence.name))
    weights = {
        "detector": None if detections else models.detector_weights.describe(),
        "reid": models.reid_weights.describe() if config.needs_embeddings else None,
        **linking_weights,
    }
    data = {sequence.name: sequence.describe() for sequence in sequences}
    return Evaluation(score_set(tasks, with_motmetrics), tasks, data, weights, tracks)


def _lines(frames: list[TrackedFrame], sequence: LabelledSequence) -> Iterator[bytes]:
    return (encode_frame(frame, sequence.detected.class_names) for frame in frames)

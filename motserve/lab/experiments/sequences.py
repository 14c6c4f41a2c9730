"""Ground truth, detections and video of sequences, loaded once for any number of trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from motserve.config import Config
from motserve.errors import InvalidData, NotFound
from motserve.lab.evaluation import Benchmark, Rules, rules_for
from motserve.lab.evaluation.sequences import TruthFile, find_results
from motserve.lab.experiments.appearance import Appearance
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.detections import DetectedVideo, Progress, detect_video, read_detections, silent
from motserve.lab.experiments.footage import Footage, find_video
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.tracking import TrackedVideo, track_detections
from motserve.models.provenance import describe_files
from motserve.pipeline.video_tracker import OnEmbedded
from motserve.postprocessing import PostProcessor
from motserve.results import MotTable, read_mot


@dataclass(frozen=True, slots=True)
class LabelledSequence:
    """One sequence with its ground truth and detections.

    Attributes:
        truth: File of the ground truth.
        table: The ground truth.
        rules: Rules of its benchmark.
        detected: The detections.
        footage: The video; None if there are only detections.
    """

    truth: TruthFile
    table: MotTable
    rules: Rules
    detected: DetectedVideo
    footage: Footage | None

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.truth.name

    def clip(self, start: int, stop: int) -> LabelledSequence:
        """Return the frames from `start` to before `stop` as a sequence, numbered from 0."""
        return self._slice(slice(start, stop, 1))

    def subsampled(self, every: int) -> LabelledSequence:
        """Return every n-th frame as a sequence of a lower frame rate, numbered from 0."""
        return self if every == 1 else self._slice(slice(0, len(self.detected), every))

    def _slice(self, frames: slice) -> LabelledSequence:
        video, (start, stop, every) = self.detected, frames.indices(len(self.detected))
        rows = (self.table.frames >= start) & (self.table.frames < stop) & ((self.table.frames - start) % every == 0)
        table = self.table.select(rows)
        table = replace(table, frames=(table.frames - start) // every)
        detected = replace(
            video,
            detections=video.detections[frames],
            timestamps=video.timestamps[frames] - (video.timestamps[start] if start < len(video) else 0),
            rate_hz=video.rate_hz and video.rate_hz / every,
            first=video.frame_of(start),
            every=video.every * every,
        )
        return replace(self, table=table, detected=detected)

    def describe(self) -> dict[str, Any]:
        """Return the provenance of the data that was read so far."""
        data = {"ground_truth": describe_files([self.truth.path]), "detections": dict(self.detected.source)}
        if self.footage is not None and self.footage.was_read:
            data["video"] = {"file": self.footage.path.name, "sha256": self.footage.sha256}
        return data


def load_sequences(
    truths: Mapping[str, TruthFile],
    models: Models,
    cache: Cache,
    *,
    detections: Path | None = None,
    videos: Path | None = None,
    benchmark: Benchmark | None = None,
    progress: Progress = silent,
) -> list[LabelledSequence]:
    """Read the ground truth, and read or compute the detections.

    Args:
        truths: The sequences.
        models: The detector, for sequences without a detection file.
        cache: Cache of detections.
        detections: Folder or file of MOTChallenge detections; None to run the detector over the videos.
        videos: Folder of the videos, if they are not beside the ground truth.
        benchmark: Benchmark whose rules apply; None to detect it from each file.
        progress: Called with the progress of detection.

    Returns:
        The sequences, in the order given.

    Raises:
        NotFound: A file is missing.
        InvalidData: A row is malformed, or the length of a video differs from its `seqinfo.ini`.
        InvalidVideo: A video cannot be decoded.
        WeightsUnavailable: The detector's weights are not available.
    """
    files = find_results(detections, list(truths)) if detections else {}
    sequences = []
    for name, truth in truths.items():
        table = read_mot(truth.path)
        if name in files:
            truth_frames = int(table.frames.max()) + 1 if len(table) else 0
            detected = read_detections(files[name], truth, models.config, truth_frames)
            footage = _footage_if_any(truth, videos, models.config)
        else:
            footage = Footage(find_video(truth, videos), models.config.video, truth)
            detected = detect_video(name, footage, models, cache, progress)
            if truth.frames is not None and truth.frames != len(detected):  # containers may declare no length
                raise InvalidData(
                    f"{footage.path} has {len(detected)} frames, {name} has {truth.frames}; this is not its video"
                )
        sequences.append(LabelledSequence(truth, table, rules_for(name, table, benchmark), detected, footage))
    return sequences


def track_sequence(sequence: LabelledSequence, config: Config, cache: Cache) -> TrackedVideo:
    """Track a sequence as configured, including postprocessing.

    Args:
        sequence: The sequence.
        config: The configuration; its detector is not used.
        cache: Cache of embeddings.
    """
    postprocessor = PostProcessor(config)
    history = postprocessor.new_history(sequence.footage.size if sequence.footage is not None else None)
    tracked = _track(sequence, config, cache, history.add if history else None)
    return replace(tracked, frames=postprocessor(tracked.frames, history))


def _track(sequence: LabelledSequence, config: Config, cache: Cache, on_embedded: OnEmbedded | None) -> TrackedVideo:
    footage = sequence.footage
    if footage is None or not (config.needs_embeddings or config.camera):
        return track_detections(sequence.detected, config)
    if not config.needs_embeddings:
        with footage:
            return track_detections(sequence.detected, config, footage=footage)
    with Appearance(footage, Models(config), cache) as appearance:
        return track_detections(sequence.detected, config, appearance, footage, on_embedded=on_embedded)


def _footage_if_any(truth: TruthFile, videos: Path | None, config: Config) -> Footage | None:
    try:
        return Footage(find_video(truth, videos), config.video, truth)
    except NotFound:
        return None

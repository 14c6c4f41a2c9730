"""The detections of a sequence: read from a file, from the cache, or computed by the detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from motserve.config import Config
from motserve.errors import InvalidData
from motserve.lab.evaluation.score_scales import choose_scale, to_confidences
from motserve.lab.evaluation.sequences import TruthFile
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.footage import Footage
from motserve.lab.experiments.models import Models
from motserve.models.provenance import describe_files
from motserve.pipeline.detections.given import detections_by_frame
from motserve.results import read_mot
from motserve.types import Detections

Progress = Callable[[str, int, int | None], None]
"""Callback of progress: name of the active sequence, frames done, total frames or None where not known."""


def silent(name: str, done: int, total: int | None) -> None:
    """Ignore progress."""


PERSON: Final[Mapping[int, str]] = {0: "person"}


@dataclass(frozen=True, slots=True)
class DetectedVideo:
    """Detections of each frame of a sequence.

    Attributes:
        name: Name of the sequence.
        detections: One `Detections` for each frame.
        timestamps: `(n,)` float64, presentation time of each frame in seconds.
        rate_hz: Nominal frame rate in Hz; None where it is not known.
        class_names: Name of each class index.
        source: Where the detections come from, for the provenance of a result.
        first: Frame of the video of the first detections, where they cover a part of it.
        every: Step between these frames, in frames of the video.
    """

    name: str
    detections: list[Detections]
    timestamps: NDArray[np.float64]
    rate_hz: float | None
    class_names: Mapping[int, str]
    source: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    every: int = 1

    def __len__(self) -> int:
        return len(self.detections)

    def frame_of(self, index: int) -> int:
        """Return the frame of the video with an index in this sequence."""
        return self.first + self.every * index


def read_detections(path: Path, truth: TruthFile, config: Config, min_frames: int = 0) -> DetectedVideo:
    """Read detections from MOTChallenge text; all of them are people.

    Args:
        path: The file.
        truth: Ground truth of the sequence, with its length and rate. Without a length the sequence ends at the last
            row; without a rate it has the rate of an image folder.
        config: `evaluation.detection_scores` sets how scores become confidences; detections below
            `detector.confidence` are dropped, as with a detector.
        min_frames: Minimum length of a sequence without a length, from the last frame of its ground truth.

    Returns:
        The detections, frame k at k / rate seconds. Their `source` records how the scores were converted.

    Raises:
        NotFound: There is no such file.
        InvalidData: A row is malformed, a score is not a confidence but read as one, or a frame is after the end.
    """
    table = read_mot(path)
    frames = truth.frames or max(min_frames, int(table.frames.max()) + 1 if len(table) else 0)
    beyond = np.flatnonzero(table.frames >= frames)
    if len(beyond):
        line = table.lines[beyond].min()
        raise InvalidData(f"{table.name}, line {line}: frame after the end of {truth.name}, which has {frames}")
    scale = choose_scale(table.scores, config.evaluation)
    scores = to_confidences(table, scale)
    detections_of = detections_by_frame(table, scores, config.detector.confidence)
    rate = truth.rate_hz or config.video.image_folder_rate_hz
    source = {"file": path.name, **describe_files([path]), "scores": scale}
    if scale != "as-is" and len(table):
        source["score_range"] = [float(table.scores.min()), float(table.scores.max())]
    detections = [detections_of(index) for index in range(frames)]
    return DetectedVideo(truth.name, detections, np.arange(frames) / rate, rate, PERSON, source)


def detect_video(
    name: str, footage: Footage, models: Models, cache: Cache, progress: Progress = silent
) -> DetectedVideo:
    """Detect in every frame of a video, or read the detections of the same video, weights and settings from the cache.

    Args:
        name: Name of the sequence.
        footage: Its frames.
        models: The detector.
        cache: Cache of detections.
        progress: Called after each batch; not called when the cache has the result.

    Returns:
        The detections.

    Raises:
        InvalidVideo: The video cannot be decoded; nothing is cached.
        InvalidData: It is not the video of its sequence.
        WeightsUnavailable: The detector's weights are not available.
    """
    key = {"video": footage.sha256, "rate": footage.rate_hz, **models.detection_key()}
    source = {"video": footage.path.name, "sha256": footage.sha256, "weights": models.detector_weights.describe()}
    cached = cache.load_detections(key)
    if cached is None:
        cached = _detect(name, footage, models, progress)
        key |= models.detection_key()  # its backend is another one if the network could not be converted
        cache.store_detections(key, *cached)
    detections, timestamps, notes = cached
    footage.check((notes["width"], notes["height"]))
    class_names = {int(index): class_name for index, class_name in notes["class_names"].items()}
    return DetectedVideo(name, detections, timestamps, notes["rate_hz"], class_names, source)


def _detect(
    name: str, footage: Footage, models: Models, progress: Progress
) -> tuple[list[Detections], NDArray[np.float64], Any]:
    detections: list[Detections] = []
    timestamps: list[float] = []
    with footage.open() as source:
        frames = source.frames()
        while batch := list(islice(frames, models.config.evaluation.detect_batch)):
            detections += models.detector.detect([frame.image for frame in batch])
            timestamps += [frame.timestamp for frame in batch]
            progress(name, len(detections), source.info.frame_count)
        info = source.info
        notes = {
            "rate_hz": info.rate_hz,
            "width": info.width,
            "height": info.height,
            "class_names": dict(models.detector.class_names),
        }
    return detections, np.array(timestamps), notes

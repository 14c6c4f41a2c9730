"""The detections of a sequence: read from a file, kept from an earlier run, or made by a detector now."""

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
from motserve.results import read_mot
from motserve.types import Detections

Progress = Callable[[str, int, int | None], None]
"""Told which sequence is in work, how many of its frames are done, and of how many where that is known."""


def silent(name: str, done: int, total: int | None) -> None:
    """Tell nobody."""


PERSON: Final[Mapping[int, str]] = {0: "person"}
_LEAST_SIDE = 1.0  # pixels; detectors drop thinner boxes as well, which show nobody


@dataclass(frozen=True, slots=True)
class DetectedVideo:
    """What was seen in each frame of a sequence.

    Attributes:
        name: Name of the sequence.
        detections: One `Detections` for each frame.
        timestamps: `(n,)` float64, presentation time of each frame in seconds.
        rate_hz: Nominal frame rate in Hz; None where it is not known.
        class_names: Name of each class index.
        source: Where the detections come from, for the stamp on a result.
        first: Frame of the video that the first of these is, where they are a part of it.
        every: Frames of the video from one of these to the next.
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
        """Return the frame of the video that one of these is."""
        return self.first + self.every * index


def read_detections(path: Path, truth: TruthFile, config: Config, least: int = 0) -> DetectedVideo:
    """Read detections from MOTChallenge text, all of them people.

    Args:
        path: The file.
        truth: Ground truth of the sequence: its length and rate. Without a length it ends at the last row; without a
            rate it has that of an image folder.
        config: `evaluation.detection_scores` says how scores become confidences; `detector.confidence` is the least
            confidence that counts, as with a detector.
        least: Frames that a sequence without a length has at least, because its ground truth speaks of them.

    Returns:
        The detections, frame k at k / rate seconds. Their `source` says how the scores were read.

    Raises:
        NotFound: There is no such file.
        InvalidData: A row is malformed, a score is no confidence though it is to be one, or a frame is behind the end.
    """
    table = read_mot(path)
    frames = truth.frames or max(least, int(table.frames.max()) + 1 if len(table) else 0)
    behind = np.flatnonzero(table.frames >= frames)
    if len(behind):
        line = table.lines[behind].min()
        raise InvalidData(f"{table.name}, line {line}: frame behind the end of {truth.name}, which has {frames}")
    scale = choose_scale(table.scores, config.evaluation)
    scores = to_confidences(table, scale)
    is_counted = (scores >= np.float32(config.detector.confidence)) & (table.ltwh[:, 2:] >= _LEAST_SIDE).all(1)
    boxes = table.boxes
    parts = np.split(np.arange(len(table)), np.searchsorted(table.frames, np.arange(1, frames)))
    detections = []
    for part in parts:
        rows = part[is_counted[part]]
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        detections.append(Detections(boxes[rows], scores[rows], np.zeros(len(rows), np.int64)))
    rate = truth.rate_hz or config.video.image_folder_rate_hz
    source = {"file": path.name, **describe_files([path]), "scores": scale}
    if scale != "as-is" and len(table):
        source["score_range"] = [float(table.scores.min()), float(table.scores.max())]
    return DetectedVideo(truth.name, detections[:frames], np.arange(frames) / rate, rate, PERSON, source)


def detect_video(
    name: str, footage: Footage, models: Models, cache: Cache, progress: Progress = silent
) -> DetectedVideo:
    """Detect in every frame of a video, or take what the cache holds of the same video, weights and settings.

    Args:
        name: Name of the sequence.
        footage: Its pictures.
        models: The detector.
        cache: Where detections are kept.
        progress: Told of each batch; not called when the cache answers.

    Returns:
        The detections.

    Raises:
        InvalidVideo: The video cannot be decoded; then nothing is kept.
        InvalidData: It is not the video of its sequence.
        WeightsUnavailable: The detector's weights cannot be had.
    """
    key = {"video": footage.sha256, "rate": footage.rate_hz, **models.detection_key()}
    source = {"video": footage.path.name, "sha256": footage.sha256, "weights": models.detector_weights.describe()}
    kept = cache.load_detections(key)
    if kept is None:
        kept = _detect(name, footage, models, progress)
        cache.store_detections(key, *kept)
    detections, timestamps, notes = kept
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

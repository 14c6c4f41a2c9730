"""Footage of one camera with labels of all people, from ground truth or from a detector and a tracker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motserve.config import Config, load_config
from motserve.errors import InvalidData
from motserve.lab.evaluation import rules_for
from motserve.lab.evaluation.preparation import counted_people, rows_by_frame
from motserve.lab.evaluation.sequences import TruthFile, find_truth
from motserve.lab.experiments.cache import open_cache
from motserve.lab.experiments.detections import detect_video
from motserve.lab.experiments.footage import Footage, find_video
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.tracking import track_detections
from motserve.postprocessing import PostProcessor
from motserve.reid.crops import covered_shares
from motserve.results import read_mot
from motserve.types import FloatArray, Image, IntArray
from training.bundled.config import LabelConfig, SceneSource


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of one frame.

    Attributes:
        ids: `(n,)` int64, identity; unique in a scene.
        boxes: `(n, 4)` float32, xyxy in pixels, the whole body including occluded parts.
        visibility: `(n,)` float32 in [0, 1], share of the body that is not occluded.
        others: `(m, 4)` float32, distractors such as reflections and seated people.
    """

    ids: IntArray
    boxes: FloatArray
    visibility: FloatArray
    others: FloatArray


class Scene:
    """The labelled frames of one video.

    Args:
        footage: The video.
        labels: Labels of each labelled frame, by index.
        is_true: Whether the labels are ground truth and thus complete.
    """

    def __init__(self, footage: Footage, labels: dict[int, Labels], is_true: bool) -> None:
        self._footage = footage
        self.labels = labels
        self.is_true = is_true

    def frames(self, every: int) -> Iterator[tuple[int, Image]]:
        """Yield the index and the image of each n-th frame, labelled or not."""
        with self._footage.open() as source:
            for frame in source.frames():
                if frame.index % every == 0:
                    yield frame.index, frame.image


def open_scene(source: SceneSource, data: Path, teacher: Path, settings: LabelConfig) -> Scene:
    """Open footage and read or compute its labels.

    Args:
        source: The scene.
        data: Folder that its path is relative to.
        teacher: Weights of the detector that labels footage without ground truth.
        settings: Labelling.

    Raises:
        MotserveError: A file is missing or malformed.
    """
    place = data / source.path
    if place.is_dir():
        (truth,) = find_truth(place).values()
        return Scene(Footage(find_video(truth), Config().video, truth), _true_labels(truth), is_true=True)
    return Scene(*_teacher_labels(place, teacher, settings), is_true=False)


def occluded_by(boxes: FloatArray) -> FloatArray:
    """Return the share of each of `(n, 4)` boxes that the nearer person with the largest overlap occludes.

    A person lower in the picture is nearer to the camera.

    >>> occluded_by(np.array([[0, 0, 2, 4], [1, 0, 3, 5]], np.float32)).tolist()
    [0.5, 0.0]
    """
    nearer = boxes[None, :, 3] > boxes[:, None, 3]
    return np.asarray((covered_shares(boxes) * nearer).max(axis=1, initial=0), np.float32)


def _true_labels(truth: TruthFile) -> dict[int, Labels]:
    table = read_mot(truth.path)
    rules = rules_for(truth.name, table)
    people = counted_people(table, rules)
    others = np.isin(table.classes, list(rules.distractors)) & rules.classes
    all_boxes = table.boxes
    labels = {}
    for frame, frame_rows in enumerate(rows_by_frame(table, truth.frames or int(table.frames.max()) + 1)):
        rows = frame_rows[people[frame_rows]]
        boxes = all_boxes[rows]
        visibility = table.visibility[rows] if rules.classes else 1 - occluded_by(boxes)
        labels[frame] = Labels(table.ids[rows], boxes, visibility, all_boxes[frame_rows[others[frame_rows]]])
    return labels


def _teacher_labels(video: Path, teacher: Path, settings: LabelConfig) -> tuple[Footage, dict[int, Labels]]:
    """Label a video with a detector and a tracker; tracks must be long and reach high confidence."""
    config = load_config(
        overrides={
            "detector": {
                "weights": [str(teacher)],
                "confidence": settings.min_confidence,
                "image_size": settings.image_size,
            },
            "reid": {"policy": "off"},
            "linking": {},
            "interpolation": {"max_gap_s": settings.bridged_s},
        }
    )
    footage = Footage(video, config.video)
    detected = detect_video(video.stem, footage, Models(config), open_cache(config))
    tracked = PostProcessor(config)(track_detections(detected, config, footage=footage).frames)
    ids, peaks = _lengths_and_peaks([(frame.identities, frame.tracks.scores) for frame in tracked])
    confident = {one for one, count, peak in zip(ids, *peaks, strict=True) if count >= settings.min_frames
            and peak >= settings.sure_confidence}  # fmt: skip
    if not confident:
        raise InvalidData(f"{video}: no person is tracked for {settings.min_frames} frames with confidence "
                          f"{settings.sure_confidence}; the video cannot be used")  # fmt: skip
    labels = {}
    for frame in tracked:
        rows = np.flatnonzero([identity in confident for identity in frame.identities.tolist()])
        boxes = frame.tracks.boxes[rows].copy()
        sources = frame.tracks.detections[rows]
        # a detected box is more accurate than the filter's
        boxes[sources >= 0] = detected.detections[frame.index].boxes[sources[sources >= 0]]
        labels[frame.index] = Labels(
            frame.identities[rows], boxes, 1 - occluded_by(boxes), np.empty((0, 4), np.float32)
        )
    return footage, labels


def _lengths_and_peaks(frames: list[tuple[IntArray, FloatArray]]) -> tuple[list[int], tuple[IntArray, FloatArray]]:
    """Return the IDs, the number of frames of each, and its highest confidence."""
    all_ids = np.concatenate([ids for ids, _ in frames])
    scores = np.concatenate([scores for _, scores in frames])
    ids, rows, counts = np.unique(all_ids, return_inverse=True, return_counts=True)
    peaks = np.zeros(len(ids), np.float32)
    np.maximum.at(peaks, rows, scores)
    return ids.tolist(), (counts, peaks)

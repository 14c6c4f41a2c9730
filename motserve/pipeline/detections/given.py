"""Detections that the user gives for a video in place of the detector: a file, or one item for each frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from motserve.config.paths import local_path
from motserve.errors import InvalidConfig, InvalidData
from motserve.pipeline.own_detections import as_detections
from motserve.results import MotTable, read_mot, require_confidences
from motserve.types import Detections, FloatArray

Given: TypeAlias = str | Path | Sequence[Any]
"""A MOTChallenge file, or the detections of each frame in any form that `Tracker.update` takes."""

_MIN_SIDE: Final = 1.0  # pixels; detectors drop thinner boxes too, which cannot show a person
_NONE: Final = Detections.empty()


class GivenDetections:
    """The detections of each frame of a video, all of the class `person` unless they have other classes.

    Args:
        given: See `motserve.track`.
        min_confidence: Detections below it are dropped, as with a detector.

    Attributes:
        path: The file; None for detections from memory.
        class_names: Name of each class index.
        frames_reused: 0; nothing was computed before.

    Raises:
        NotFound: There is no such file.
        InvalidData: A row is not a detection, or a score is not a confidence.
        InvalidConfig: It is neither a path nor a sequence.
    """

    frames_reused = 0

    def __init__(self, given: Given, min_confidence: float) -> None:
        self.path: Path | None = None
        classes: set[int] = set()
        if isinstance(given, str | os.PathLike):
            try:
                self.path = local_path(os.fsdecode(given))
            except ValueError as error:
                raise InvalidConfig(str(error)) from error
            table = read_mot(self.path)
            require_confidences(table, "convert such scores first")
            self._of = detections_by_frame(table, table.scores, min_confidence)
        elif isinstance(given, Sequence) or getattr(given, "ndim", 0) > 0:
            frames = [_frame(number, frame) for number, frame in enumerate(given)]
            classes = {int(index) for frame in frames for index in np.unique(frame.classes)}
            self._of = lambda index: _confident(frames[index], min_confidence) if index < len(frames) else _NONE
        else:
            raise InvalidConfig(
                f"detections must be the path of a MOTChallenge file, or a list with an item for each frame, not "
                f"{given!r:.80}"
            )
        self.class_names: Mapping[int, str] = {0: "person"} | {index: f"class {index}" for index in classes - {0}}

    def begin(self, class_names: Mapping[int, str]) -> None:
        """Do nothing; there is nothing to store."""

    def take(self, indices: Sequence[int]) -> list[Detections]:
        """Return the detections of frames; a frame behind the last one given has none."""
        return [self._of(index) for index in indices]

    def store(self, indices: Sequence[int], detections: Sequence[Detections]) -> None:
        """Do nothing; there is nothing to store."""

    def close(self) -> None:
        """Do nothing; nothing is open."""


def _frame(number: int, given: object) -> Detections:
    try:
        return as_detections(given)
    except InvalidData as error:
        raise InvalidData(f"frame {number}: {error}") from error


def detections_by_frame(table: MotTable, scores: FloatArray, min_confidence: float) -> Callable[[int], Detections]:
    """Return a function from the index of a frame to its detections, all of class 0, the most confident first.

    Args:
        table: The rows; boxes thinner than a pixel are dropped.
        scores: `(n,)` float32 in [0, 1], confidence of each row.
        min_confidence: Rows below it are dropped.
    """
    is_used = (scores >= np.float32(min_confidence)) & (table.ltwh[:, 2:] >= _MIN_SIDE).all(axis=1)
    boxes, order = table.boxes, np.lexsort((-scores, table.frames))
    order = order[is_used[order]]
    frames = table.frames[order]

    def detections_of(index: int) -> Detections:
        first, end = np.searchsorted(frames, [index, index + 1])
        rows = order[first:end]
        return Detections(boxes[rows], scores[rows], np.zeros(len(rows), np.int64))

    return detections_of


def _confident(frame: Detections, min_confidence: float) -> Detections:
    rows = frame.scores >= np.float32(min_confidence)
    return Detections(frame.boxes[rows], frame.scores[rows], frame.classes[rows])

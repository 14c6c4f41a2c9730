"""The interface to run and time any tracker, and its implementation for motserve's own trackers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from motserve.base import TrackerBase
from motserve.types import Detections, FloatArray, Tracks

Step = Callable[[], Any]


class Contender(ABC):
    """A tracker in a comparison. Each object tracks one video."""

    @abstractmethod
    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """Return the step that advances the tracker by a frame; see `TrackerBase.update` for the arguments."""

    @abstractmethod
    def read(self, answer: Any) -> Tracks:
        """Turn what the step returned into tracks."""


class Own(Contender):
    """One of motserve's own trackers."""

    def __init__(self, tracker: TrackerBase) -> None:
        self._tracker = tracker

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        return partial(self._tracker.update, detections, timestamp)

    def read(self, answer: Tracks) -> Tracks:
        """See `Contender.read`."""
        return answer


def detection_rows(detections: Detections) -> FloatArray:
    """Return `(n, 6)` float32 of box, score and class, as several packages take detections."""
    columns = [detections.boxes, detections.scores[:, None], detections.classes[:, None].astype(np.float32)]
    return np.concatenate(columns, axis=1)

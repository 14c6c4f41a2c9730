"""Trackers in compiled languages: pyxtrackers, written in Cython, and EdgeFirst's ByteTrack, written in Rust."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from motserve.lab.benchmark.peers.contender import Contender, Step
from motserve.types import SOME_DETECTION, Detections, Tracks

PYXTRACKERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "sort": ("Sort", {}),
    "bytetrack": ("BYTETracker", {}),
    "ocsort": ("OCSort", {"det_thresh": 0.3}),
}
"""Class and arguments of each tracker; OC-SORT has no default threshold, so this is the one of its manual."""

_NS_PER_S: Final = 1e9


class PyxTrackers(Contender):
    """A tracker of pyxtrackers; it measures time in frames and does not return the detection of each track.

    Args:
        name: Name of its class.
        **changes: Arguments of its class.
    """

    def __init__(self, name: str, **changes: Any) -> None:
        import pyxtrackers

        self._tracker: Any = getattr(pyxtrackers, name)(**changes)

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        rows = np.concatenate([detections.boxes, detections.scores[:, None]], axis=1)
        return partial(self._tracker.update, rows.astype(np.float64))

    def read(self, answer: Any) -> Tracks:
        """See `Contender.read`. Rows are box and ID; scores are not returned and set to 1."""
        rows = np.asarray(answer, np.float64).reshape(-1, 5)
        n = len(rows)
        return Tracks(
            rows[:, 4].astype(np.int64),
            rows[:, :4].astype(np.float32),
            np.ones(n, np.float32),
            np.zeros(n, np.int64),
            np.full(n, SOME_DETECTION),
        )


class EdgeFirst(Contender):
    """The ByteTrack of EdgeFirst, which identifies tracks by UUIDs."""

    def __init__(self) -> None:
        from edgefirst.tracker import ByteTrack

        self._tracker: Any = ByteTrack()
        self._ids: dict[str, int] = {}

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        step = partial(
            self._tracker.update,
            np.asarray(detections.boxes, np.float32),
            np.asarray(detections.scores, np.float32),
            detections.classes.astype(np.uintp),
            round(timestamp * _NS_PER_S),
        )
        return lambda: (detections, step())

    def read(self, answer: Any) -> Tracks:
        """See `Contender.read`. It returns for each detection a track or None."""
        detections, tracks = answer
        matched = np.array([row for row, track in enumerate(tracks) if track is not None], np.int64)
        ids = [self._ids.setdefault(tracks[row].uuid, len(self._ids) + 1) for row in matched.tolist()]
        boxes = [tracks[row].tracked_location for row in matched.tolist()]
        return Tracks(
            np.array(ids, np.int64),
            np.array(boxes, np.float32).reshape(-1, 4),
            detections.scores[matched],
            detections.classes[matched],
            matched,
        )

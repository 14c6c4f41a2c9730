"""The trackers of Roboflow's package `trackers`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from motserve.lab.benchmark.peers.contender import Contender, Step
from motserve.types import Detections, Tracks

NAMES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "sort": ("SORTTracker", {}),
    "bytetrack": ("ByteTrackTracker", {}),
    "botsort": ("BoTSORTTracker", {"enable_cmc": False}),
    "ocsort": ("OCSORTTracker", {}),
    "cbiou": ("CBIoUTracker", {}),
}
"""Class of each tracker and the arguments that differ from its defaults."""


class Roboflow(Contender):
    """A tracker of Roboflow's package `trackers`.

    Args:
        name: Name of its class.
        rate_hz: Frame rate in Hz; None where it is unknown.
        **changes: Arguments that differ from its defaults.
    """

    def __init__(self, name: str, rate_hz: float | None, **changes: Any) -> None:
        import trackers

        rate = {} if rate_hz is None else {"frame_rate": rate_hz}
        self._tracker = getattr(trackers, name)(**rate, **changes)

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        import supervision

        converted = supervision.Detections(
            xyxy=detections.boxes,
            confidence=detections.scores,
            class_id=detections.classes,
            data={"row": np.arange(len(detections))},
        )
        return partial(self._tracker.update, converted)

    def read(self, answer: Any) -> Tracks:
        """See `Contender.read`. Detections without a track have the ID -1; IDs count from 0."""
        tracked = np.flatnonzero(answer.tracker_id >= 0) if len(answer) else np.empty(0, np.int64)
        if not tracked.size:
            return Tracks.empty()
        return Tracks(
            np.asarray(answer.tracker_id[tracked], np.int64) + 1,
            np.asarray(answer.xyxy[tracked], np.float32),
            np.asarray(answer.confidence[tracked], np.float32),
            np.asarray(answer.class_id[tracked], np.int64),
            np.asarray(answer.data["row"][tracked], np.int64),
        )

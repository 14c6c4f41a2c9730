"""The Python trackers of BoxMOT that need no appearance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from motserve.lab.benchmark.peers.contender import Contender, Step, detection_rows
from motserve.types import Detections, Image, Tracks

NAMES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "bytetrack": ("ByteTrack", {}),
    "botsort": ("BotSort", {"use_cmc": False, "use_embeddings": False}),
    "ocsort": ("OcSort", {}),
    "boosttrack": ("BoostTrack", {"use_cmc": False}),
    "sfsort": ("SFSORT", {}),
}
"""Class of each tracker and the arguments that differ from its defaults."""

_ANY_PICTURE: Final[Image] = np.zeros((1080, 1920, 3), np.uint8)
"""Placeholder: some trackers require an image and use only its size."""


class BoxMot(Contender):
    """A tracker of BoxMOT; by default it measures time in frames.

    Args:
        name: Name of its class.
        **changes: Arguments that differ from its defaults.
    """

    def __init__(self, name: str, **changes: Any) -> None:
        import boxmot

        self._tracker: Any = getattr(boxmot, name)(**changes)

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        return partial(self._tracker.update, detection_rows(detections), _ANY_PICTURE)

    def read(self, answer: Any) -> Tracks:
        """See `Contender.read`. Rows are box, ID, score, class and row of the detection; IDs count from 0."""
        rows = np.asarray(answer, np.float64).reshape(-1, 8)
        ids, classes, detections = (rows[:, column].astype(np.int64) for column in (4, 6, 7))
        return Tracks(ids + 1, rows[:, :4].astype(np.float32), rows[:, 5].astype(np.float32), classes, detections)

"""The tracks of a whole video as one struct of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from motserve.types import FloatArray, IntArray, TrackedFrame, Tracks


@dataclass(frozen=True)
class Rows:
    """Every row of a video, sorted by identity and frame.

    Attributes:
        frames: `(n,)` int64, index of the frame in the sequence of frames.
        identities: `(n,)` int64.
        ids: `(n,)` int64; this and the following columns are as in `Tracks`.
    """

    frames: IntArray
    identities: IntArray
    ids: IntArray
    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    detections: IntArray

    @classmethod
    def of(cls, frames: Sequence[TrackedFrame]) -> Rows:
        """Return the rows of all frames."""
        tracks = [frame.tracks for frame in frames]
        rows = cls(
            np.repeat(np.arange(len(frames)), [len(item) for item in tracks]),
            np.concatenate([np.empty(0, np.int64), *(frame.identities for frame in frames)]),
            np.concatenate([np.empty(0, np.int64), *(item.ids for item in tracks)]),
            np.concatenate([np.empty((0, 4), np.float32), *(item.boxes for item in tracks)]),
            np.concatenate([np.empty(0, np.float32), *(item.scores for item in tracks)]),
            np.concatenate([np.empty(0, np.int64), *(item.classes for item in tracks)]),
            np.concatenate([np.empty(0, np.int64), *(item.detections for item in tracks)]),
        )
        return rows.sorted()

    def sorted(self) -> Rows:
        """Return the rows by identity and frame."""
        return self.select(np.lexsort((self.frames, self.identities)))

    def select(self, chosen: IntArray) -> Rows:
        """Return some of the rows."""
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def concatenated(self, other: Rows) -> Rows:
        """Return these rows followed by others."""
        return Rows(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__dataclass_fields__)
        )

    def split(self, frames: Sequence[TrackedFrame]) -> list[TrackedFrame]:
        """Return the frames with these rows, in the order of their IDs."""
        order = np.lexsort((self.ids, self.frames))
        ends = np.searchsorted(self.frames[order], np.arange(1, len(frames)))
        return [
            self._frame(frame, rows_of_frame)
            for frame, rows_of_frame in zip(frames, np.split(order, ends), strict=True)
        ]

    def _frame(self, frame: TrackedFrame, rows_of_frame: IntArray) -> TrackedFrame:
        rows = self.select(rows_of_frame)
        tracks = Tracks(rows.ids, rows.boxes, rows.scores, rows.classes, rows.detections)
        identities = dict(zip(rows.ids.tolist(), rows.identities.tolist(), strict=True))
        links = tuple(
            replace(link, identity=identities[link.track]) for link in frame.links if link.track in identities
        )
        return TrackedFrame(frame.index, frame.timestamp, tracks, rows.identities, links)

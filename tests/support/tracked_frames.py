"""Tracked frames from a tuple per box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from motserve.types import TrackedFrame, Tracks

Box = tuple[int, float, float]
"""Identity, left of a box 40 wide and 100 high, and confidence."""


def video(frames: Sequence[Sequence[Box]], times: Sequence[float] | None = None) -> list[TrackedFrame]:
    tracked = []
    for index, boxes_of_frame in enumerate(frames):
        identities = np.array([identity for identity, _, _ in boxes_of_frame], np.int64)
        left = np.array([left for _, left, _ in boxes_of_frame], np.float32)
        boxes = np.stack([left, 0 * left + 10, left + 40, 0 * left + 110], axis=1).reshape(-1, 4)
        scores = np.array([score for _, _, score in boxes_of_frame], np.float32)
        tracks = Tracks(identities + 100, boxes, scores, identities * 0, np.arange(len(identities)))
        tracked.append(TrackedFrame(index, times[index] if times else index / 10, tracks, identities))
    return tracked


def lefts(frames: Sequence[TrackedFrame], identity: int) -> Mapping[int, float]:
    return {
        frame.index: float(frame.tracks.boxes[row, 0])
        for frame in frames
        for row in np.flatnonzero(frame.identities == identity)
    }

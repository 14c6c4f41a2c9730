"""Fills the frames that the detector skips: their boxes lie on lines between the detected frames around them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, load_array, merge_states, substate
from motserve.pipeline.frame_buffer import track_columns, tracks_from
from motserve.types import INTERPOLATED, NO_DETECTION, BoolArray, IntArray, TrackedFrame, Tracks


class SkippedFrames:
    """Holds the skipped frames of one video until the detected frame after them is tracked.

    Their number is bounded by `detector.every` and by the detected frames whose identities are undecided.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, float]] = deque()
        self._last: TrackedFrame | None = None

    def add(self, index: int, timestamp: float) -> None:
        """Take a skipped frame.

        Args:
            index: Number of the frame in the video, greater than those before it.
            timestamp: Presentation time in seconds.
        """
        self._waiting.append((index, timestamp))

    def fill(self, detected: Sequence[TrackedFrame]) -> list[TrackedFrame]:
        """Return the next detected frames with the skipped ones before each of them.

        Args:
            detected: The detected frames, in order, their identities decided.
        """
        filled: list[TrackedFrame] = []
        for frame in detected:
            while self._waiting and self._waiting[0][0] < frame.index:
                filled.append(_between(self._last, frame, *self._waiting.popleft()))
            filled.append(frame)
            self._last = frame
        return filled

    def finish(self) -> list[TrackedFrame]:
        """Return the frames behind the last detected one, with its boxes, which count as predicted."""
        rest = [_after(self._last, *frame) for frame in self._waiting]
        self._waiting.clear()
        return rest

    def state_dict(self) -> State:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        last = self._last or TrackedFrame(-1, 0.0, Tracks.empty(), np.empty(0, np.int64))
        return {
            "index": np.array([index for index, _ in self._waiting], np.int64),
            "timestamp": np.array([timestamp for _, timestamp in self._waiting], np.float64),
            **merge_states(
                last={
                    "index": np.array(last.index, np.int64),
                    "timestamp": np.array(last.timestamp, np.float64),
                    "identities": last.identities.copy(),
                    **track_columns([last.tracks]),
                }
            ),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        index = load_array(state, "index", np.int64, -1)
        timestamp = load_array(state, "timestamp", np.float64, len(index))
        self._waiting = deque(zip(index.tolist(), timestamp.tolist(), strict=True))
        last = substate(state, "last")
        identities = load_array(last, "identities", np.int64, -1)
        (tracks,) = tracks_from(last, np.array([len(identities)], np.int64))
        number, seconds = int(load_array(last, "index", np.int64)), float(load_array(last, "timestamp", np.float64))
        self._last = None if number < 0 else TrackedFrame(number, seconds, tracks, identities)


def _between(before: TrackedFrame | None, after: TrackedFrame, index: int, timestamp: float) -> TrackedFrame:
    """Return a skipped frame with the tracks that both detected frames around it have, with one identity."""
    if before is None:
        return _empty(index, timestamp)
    _, first, second = np.intersect1d(before.track_ids, after.track_ids, assume_unique=True, return_indices=True)
    same = before.identities[first] == after.identities[second]
    first, second = first[same], second[same]
    share = np.float32((timestamp - before.timestamp) / (after.timestamp - before.timestamp))
    tracks = Tracks(
        before.track_ids[first],
        before.boxes[first] + share * (after.boxes[second] - before.boxes[first]),
        np.minimum(before.scores[first], after.scores[second]),
        before.classes[first],
        _rows(before.tracks.measured[first] & after.tracks.measured[second]),
    )
    return TrackedFrame(index, timestamp, tracks, before.identities[first])


def _rows(is_interpolated: BoolArray) -> IntArray:
    return np.where(is_interpolated, INTERPOLATED, NO_DETECTION).astype(np.int64)


def _after(before: TrackedFrame | None, index: int, timestamp: float) -> TrackedFrame:
    if before is None:
        return _empty(index, timestamp)
    n = len(before.tracks)
    tracks = Tracks(
        before.track_ids, before.boxes, np.zeros(n, np.float32), before.classes, np.full(n, NO_DETECTION, np.int64)
    )
    return TrackedFrame(index, timestamp, tracks, before.identities)


def _empty(index: int, timestamp: float) -> TrackedFrame:
    return TrackedFrame(index, timestamp, Tracks.empty(), np.empty(0, np.int64))

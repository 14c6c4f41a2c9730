"""When the tracked frames of a run arrive at their consumer, and the speeds that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_AT_ONCE_S: Final = 1e-3
"""Frames that arrive closer to one another were sent together: a chunk may come in several parts."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The arrival of the frames of one video. Times are seconds of `time.monotonic`, equal in all processes.

    Attributes:
        began: When the contender had the whole video.
        times: `(n,)` float64, increasing, when each frame arrived; n at least 1.
    """

    began: float
    times: NDArray[np.float64]

    @property
    def first_s(self) -> float:
        """Seconds from the start to the first frame."""
        return float(self.times[0]) - self.began


def frame_ms(deliveries: Deliveries) -> NDArray[np.float64]:
    """Return the time per frame of each frame but those that arrived first.

    Frames that arrive together share the time since the arrival before.

    Returns:
        `(m,)` float64, milliseconds; empty if all frames arrived at once.

    Example:
        >>> frame_ms(Deliveries(0.0, np.array([1.0, 1.5, 1.5]))).tolist()
        [250.0, 250.0]
    """
    times = deliveries.times
    starts = np.flatnonzero(np.diff(times, prepend=-np.inf) > _AT_ONCE_S)
    counts = np.diff(starts, append=len(times))
    per_frame = np.diff(times[starts]) / counts[1:]
    return np.repeat(per_frame, counts[1:]) * 1e3


def rate(videos: Sequence[Deliveries]) -> float:
    """Return frames per second of videos that were tracked at once, from the first start to the last frame."""
    seconds = max(video.times[-1] for video in videos) - min(video.began for video in videos)
    return float(sum(len(video.times) for video in videos) / seconds)


def rate_together(videos: Sequence[Deliveries]) -> float | None:
    """Return frames per second while all videos were delivered; None if there was no such time.

    It leaves out the start of the sessions, and the time in which some have ended.
    """
    start = max(video.times[0] for video in videos)
    end = min(video.times[-1] for video in videos)
    if end - start <= _AT_ONCE_S:
        return None
    frames = sum(int(np.count_nonzero((video.times > start) & (video.times <= end))) for video in videos)
    return frames / float(end - start)

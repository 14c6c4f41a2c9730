"""What annotated video shows of earlier frames: trails, and who returned lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from motserve.config import AnnotationConfig
from motserve.types import TrackedFrame

_MOST_POINTS: Final = 256  # of a trail at high frame rates; more are not distinguishable


@dataclass(frozen=True, slots=True)
class AnnotationState:
    """Immutable, so that a frame can be drawn later than the frames after it.

    Attributes:
        trails: For each identity the recent foot points: time in seconds, x and y in pixels.
        returned: For each identity that was given again lately, the time of it in seconds.
    """

    trails: Mapping[int, tuple[tuple[float, float, float], ...]] = field(default_factory=dict)
    returned: Mapping[int, float] = field(default_factory=dict)

    def advance(self, frame: TrackedFrame, config: AnnotationConfig) -> AnnotationState:
        """Return the state with the next frame of the video added, ready to draw that frame."""
        now, ids = frame.timestamp, frame.identities.tolist()
        trails = dict(self.trails)
        if config.trail_s > 0:
            for identity, (left, _, right, bottom) in zip(ids, frame.tracks.boxes.tolist(), strict=True):
                trails[identity] = (*trails.get(identity, ()), (now, (left + right) / 2, bottom))
            since = now - config.trail_s
            trails = {
                identity: points if points[0][0] >= since else tuple(point for point in points if point[0] >= since)
                for identity, trail in trails.items()
                if (points := trail[-_MOST_POINTS:])[-1][0] >= since
            }
        returned = dict(self.returned)
        if config.returned_s > 0:
            new = {link.track for link in frame.links}
            tracks = frame.tracks.ids.tolist()
            returned |= {identity: now for identity, track in zip(ids, tracks, strict=True) if track in new}
            returned = {identity: time for identity, time in returned.items() if now - time < config.returned_s}
        return AnnotationState(trails, returned)

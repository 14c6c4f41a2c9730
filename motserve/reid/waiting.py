"""Holds tracked frames back, in order, while it is not decided who somebody in them is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from motserve.reid.linker import Decision
from motserve.types import IntArray, Link, Sighting, TrackedFrame


@dataclass(frozen=True, slots=True)
class Settled:
    """A frame in which everybody's identity is known.

    Attributes:
        frame: The frame.
        sighting: The people whose looks were taken in it, None where that was nobody or nobody asks.
    """

    frame: TrackedFrame
    sighting: Sighting | None


@dataclass(slots=True)
class _Held:
    frame: TrackedFrame
    sighting: Sighting | None
    open: set[int]
    """Provisional identities in the frame, all below 0."""


class WaitingFrames:
    """Frames that wait for decisions; there are no more of them than a decision takes."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()

    def add(
        self, frame: TrackedFrame, decisions: Sequence[Decision], sighting: Sighting | None = None
    ) -> list[Settled]:
        """Take in the next frame and what was decided with it.

        Args:
            frame: The frame; provisional identities are below 0.
            decisions: What was decided.
            sighting: The people whose looks were taken in it, with the same identities.

        Returns:
            The frames that wait for nothing any more, in order.
        """
        self._held.append(_Held(frame, sighting, set(frame.identities[frame.identities < 0].tolist())))
        return self.settle(decisions)

    def settle(self, decisions: Sequence[Decision]) -> list[Settled]:
        """Apply decisions, and return the frames that wait for nothing any more, in order."""
        for decision in decisions:
            self._apply(decision)
        done = []
        while self._held and not self._held[0].open:
            held = self._held.popleft()
            done.append(Settled(held.frame, held.sighting))
        return done

    def _apply(self, decision: Decision) -> None:
        link = decision.link
        for held in self._held:
            if decision.provisional in held.open:
                held.frame = _without(held.frame, decision.identity)
                held.frame = replace(held.frame, identities=_named(held.frame.identities, decision))
                if held.sighting is not None:
                    held.sighting = replace(held.sighting, identities=_named(held.sighting.identities, decision))
                held.open.remove(decision.provisional)
            if link is not None and _bears(held.frame, link):
                held.frame = replace(held.frame, links=(*held.frame.links, link))
                link = None  # the frame in which the track begins says why, no other


def _bears(frame: TrackedFrame, link: Link) -> bool:
    """Tell whether the track is in a frame with the identity; it may have had another before motion refuted that."""
    return bool(((frame.tracks.ids == link.track) & (frame.identities == link.identity)).any())


def _without(frame: TrackedFrame, identity: int) -> TrackedFrame:
    """Leave out the predicted box of somebody who, as it turned out, was seen elsewhere in the frame."""
    if identity not in frame.identities:
        return frame
    rows = np.flatnonzero(frame.identities != identity)
    return replace(frame, tracks=frame.tracks.part(rows), identities=frame.identities[rows])


def _named(identities: IntArray, decision: Decision) -> IntArray:
    return np.where(identities == decision.provisional, decision.identity, identities)

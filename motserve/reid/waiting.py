"""Holds tracked frames back, in order, while it is not decided who somebody in them is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from motserve.reid.linker import Decision
from motserve.types import TrackedFrame


@dataclass(slots=True)
class _Held:
    frame: TrackedFrame
    open: set[int]
    """Provisional identities in the frame, all below 0."""


class WaitingFrames:
    """Frames that wait for decisions; there are no more of them than a decision takes."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()

    def add(self, frame: TrackedFrame, decisions: Sequence[Decision]) -> list[TrackedFrame]:
        """Take in the next frame and what was decided with it.

        Args:
            frame: The frame; provisional identities are below 0.
            decisions: What was decided.

        Returns:
            The frames that wait for nothing any more, in order.
        """
        self._held.append(_Held(frame, set(frame.identities[frame.identities < 0].tolist())))
        return self.settle(decisions)

    def settle(self, decisions: Sequence[Decision]) -> list[TrackedFrame]:
        """Apply decisions, and return the frames that wait for nothing any more, in order."""
        for decision in decisions:
            self._apply(decision)
        done = []
        while self._held and not self._held[0].open:
            done.append(self._held.popleft().frame)
        return done

    def _apply(self, decision: Decision) -> None:
        link = decision.link
        for held in self._held:
            frame = held.frame
            if decision.provisional in held.open:
                named = np.where(frame.identities == decision.provisional, decision.identity, frame.identities)
                held.frame = frame = replace(frame, identities=named)
                held.open.remove(decision.provisional)
            if link is not None and link.track in frame.tracks.ids:
                held.frame = replace(frame, links=(*frame.links, link))
                link = None  # the frame in which the track begins says why, no other

"""Holds tracked frames back, in order, while it is not decided who somebody in them is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, cut, load_array, merge_states, stacked, substate
from motserve.reid.linker import Decision
from motserve.types import EmbeddedCrops, IntArray, Link, TrackedFrame, Tracks


@dataclass(frozen=True, slots=True)
class ResolvedFrame:
    """A frame in which everybody's identity is known.

    Attributes:
        frame: The frame.
        sighting: The people whose looks were taken in it, None where that was nobody or nobody asks.
    """

    frame: TrackedFrame
    sighting: EmbeddedCrops | None


@dataclass(slots=True)
class _Held:
    frame: TrackedFrame
    sighting: EmbeddedCrops | None
    open: set[int]
    """Provisional identities in the frame, all below 0."""


class FrameBuffer:
    """Frames that wait for decisions; there are no more of them than a decision takes."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()

    def add(
        self, frame: TrackedFrame, decisions: Sequence[Decision], sighting: EmbeddedCrops | None = None
    ) -> list[ResolvedFrame]:
        """Take in the next frame and what was decided with it.

        Args:
            frame: The frame; provisional identities are below 0.
            decisions: What was decided.
            sighting: The people whose looks were taken in it, with the same identities.

        Returns:
            The frames that wait for nothing any more, in order.
        """
        self._held.append(_held(frame, sighting))
        return self.settle(decisions)

    def settle(self, decisions: Sequence[Decision]) -> list[ResolvedFrame]:
        """Apply decisions, and return the frames that wait for nothing any more, in order."""
        for decision in decisions:
            self._apply(decision)
        done = []
        while self._held and not self._held[0].open:
            held = self._held.popleft()
            done.append(ResolvedFrame(held.frame, held.sighting))
        return done

    def state_dict(self) -> State:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        frames = [held.frame for held in self._held]
        links = [(row, *astuple(link)) for row, frame in enumerate(frames) for link in frame.links]
        tracks = [frame.tracks for frame in frames]
        seen = [held.sighting for held in self._held if held.sighting is not None]
        return {
            "index": np.array([frame.index for frame in frames], np.int64),
            "timestamp": np.array([frame.timestamp for frame in frames], np.float64),
            "sighted": np.array([held.sighting is not None for held in self._held], np.bool_),
            "count": np.array([len(of_frame) for of_frame in tracks], np.int64),
            "identities": stacked([frame.identities for frame in frames], np.empty(0, np.int64)),
            "links": np.array(links, np.float64).reshape(-1, 1 + len(fields(Link))),
            **merge_states(tracks=_columns(tracks, Tracks.empty()), sightings=_sightings(seen)),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        index = load_array(state, "index", np.int64, -1).tolist()
        n = len(index)
        timestamp = load_array(state, "timestamp", np.float64, n).tolist()
        count, sighted = load_array(state, "count", np.int64, n), load_array(state, "sighted", np.bool_, n)
        identities = cut(load_array(state, "identities", np.int64, -1), count)
        tracks = _tracks(substate(state, "tracks"), count)
        links = load_array(state, "links", np.float64, -1, 1 + len(fields(Link)))
        seen = iter(_sightings_of(substate(state, "sightings"), int(np.count_nonzero(sighted))))
        self._held = deque(
            _held(
                TrackedFrame(index[row], timestamp[row], tracks[row], identities[row], _links(links, row)),
                next(seen) if sighted[row] else None,
            )
            for row in range(n)
        )

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


def _held(frame: TrackedFrame, sighting: EmbeddedCrops | None) -> _Held:
    return _Held(frame, sighting, set(frame.identities[frame.identities < 0].tolist()))


def _columns(tracks: Sequence[Tracks], empty: Tracks) -> State:
    return {
        field.name: stacked([getattr(one, field.name) for one in tracks], getattr(empty, field.name))
        for field in fields(Tracks)
    }


def _tracks(state: Mapping[str, NDArray[Any]], count: IntArray) -> list[Tracks]:
    model = Tracks.empty()
    columns = {field.name: getattr(model, field.name) for field in fields(Tracks)}
    parts = {
        name: cut(load_array(state, name, like.dtype.type, -1, *like.shape[1:]), count)
        for name, like in columns.items()
    }
    return [Tracks(**{name: parts[name][row] for name in parts}) for row in range(len(count))]


def _links(rows: NDArray[np.float64], frame: int) -> tuple[Link, ...]:
    mine = rows[rows[:, 0] == frame, 1:].tolist()
    return tuple(Link(int(track), int(new), int(old), *numbers) for track, new, old, *numbers in mine)


def _sightings(seen: Sequence[EmbeddedCrops]) -> State:
    return {
        "timestamp": np.array([one.timestamp for one in seen], np.float64),
        "count": np.array([len(one.identities) for one in seen], np.int64),
        "identities": stacked([one.identities for one in seen], np.empty(0, np.int64)),
        "boxes": stacked([one.boxes for one in seen], np.empty((0, 4), np.float32)),
        "scores": stacked([one.scores for one in seen], np.empty(0, np.float32)),
        "embeddings": stacked([one.embeddings for one in seen], np.empty((0, 0), np.float32)),
        "crops": stacked([one.crops for one in seen], np.empty((0, 0, 0, 3), np.uint8)),
    }


def _sightings_of(state: Mapping[str, NDArray[Any]], n: int) -> list[EmbeddedCrops]:
    timestamp, count = load_array(state, "timestamp", np.float64, n).tolist(), load_array(state, "count", np.int64, n)
    columns = [
        load_array(state, "identities", np.int64, -1),
        load_array(state, "boxes", np.float32, -1, 4),
        load_array(state, "scores", np.float32, -1),
        load_array(state, "embeddings", np.float32, -1, -1),
        load_array(state, "crops", np.uint8, -1, -1, -1, 3),
    ]
    return [EmbeddedCrops(*row) for row in zip(timestamp, *(cut(column, count) for column in columns), strict=True)]

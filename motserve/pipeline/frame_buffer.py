"""Holds tracked frames back, in order, while an identity in them is undecided."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, concatenate_rows, load_array, merge_states, split_rows, substate
from motserve.reid.identity_table import is_provisional
from motserve.reid.linker import Decision
from motserve.types import EmbeddedCrops, IntArray, Link, TrackedFrame, Tracks


@dataclass(frozen=True, slots=True)
class ResolvedFrame:
    """A frame in which every identity is decided.

    Attributes:
        frame: The frame.
        embedded: The people who were embedded in it; None without any, or where no `on_embedded` callback is set.
    """

    frame: TrackedFrame
    embedded: EmbeddedCrops | None


@dataclass(slots=True)
class _Held:
    frame: TrackedFrame
    embedded: EmbeddedCrops | None
    provisional: set[int]
    """Provisional identities in the frame; it is released when there are none."""


class FrameBuffer:
    """Frames that wait for identity decisions. Their number is bounded by the longest time to a decision."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()

    def add(
        self, frame: TrackedFrame, decisions: Sequence[Decision], embedded: EmbeddedCrops | None = None
    ) -> list[ResolvedFrame]:
        """Add the next frame and apply the decisions made with it.

        Args:
            frame: The frame; identities may be provisional.
            decisions: The decisions.
            embedded: The people who were embedded in the frame, with the same identities.

        Returns:
            The frames that are resolved now, in order.
        """
        self._held.append(_held(frame, embedded))
        return self.resolve(decisions)

    def resolve(self, decisions: Sequence[Decision]) -> list[ResolvedFrame]:
        """Apply decisions and return the frames that are resolved now, in order."""
        for decision in decisions:
            self._apply(decision)
        resolved = []
        while self._held and not self._held[0].provisional:
            held = self._held.popleft()
            resolved.append(ResolvedFrame(held.frame, held.embedded))
        return resolved

    def state_dict(self) -> State:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""
        frames = [held.frame for held in self._held]
        links = [(row, *astuple(link)) for row, frame in enumerate(frames) for link in frame.links]
        tracks = [frame.tracks for frame in frames]
        embedded_crops = [held.embedded for held in self._held if held.embedded is not None]
        return {
            "index": np.array([frame.index for frame in frames], np.int64),
            "timestamp": np.array([frame.timestamp for frame in frames], np.float64),
            "has_embedded": np.array([held.embedded is not None for held in self._held], np.bool_),
            "count": np.array([len(of_frame) for of_frame in tracks], np.int64),
            "identities": concatenate_rows([frame.identities for frame in frames], np.empty(0, np.int64)),
            "links": np.array(links, np.float64).reshape(-1, 1 + len(fields(Link))),
            **merge_states(tracks=track_columns(tracks), embedded=_embedded_columns(embedded_crops)),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        index = load_array(state, "index", np.int64, -1).tolist()
        n = len(index)
        timestamp = load_array(state, "timestamp", np.float64, n).tolist()
        count, has_embedded = load_array(state, "count", np.int64, n), load_array(state, "has_embedded", np.bool_, n)
        identities = split_rows(load_array(state, "identities", np.int64, -1), count)
        tracks = tracks_from(substate(state, "tracks"), count)
        links = load_array(state, "links", np.float64, -1, 1 + len(fields(Link)))
        embedded_crops = iter(_embedded_from(substate(state, "embedded"), int(np.count_nonzero(has_embedded))))
        self._held = deque(
            _held(
                TrackedFrame(index[row], timestamp[row], tracks[row], identities[row], _links(links, row)),
                next(embedded_crops) if has_embedded[row] else None,
            )
            for row in range(n)
        )

    def _apply(self, decision: Decision) -> None:
        link = decision.link
        for held in self._held:
            if decision.provisional in held.provisional:
                held.frame = _without(held.frame, decision.identity)
                held.frame = replace(held.frame, identities=_decided(held.frame.identities, decision))
                if held.embedded is not None:
                    held.embedded = replace(held.embedded, identities=_decided(held.embedded.identities, decision))
                held.provisional.remove(decision.provisional)
            if link is not None and _has_identity(held.frame, link):
                held.frame = replace(held.frame, links=(*held.frame.links, link))
                link = None  # only the frame in which the track begins has the link


def _has_identity(frame: TrackedFrame, link: Link) -> bool:
    """Tell whether the track has the link's identity in a frame; before a refuted link it may have had another."""
    return bool(((frame.tracks.ids == link.track) & (frame.identities == link.identity)).any())


def _without(frame: TrackedFrame, identity: int) -> TrackedFrame:
    """Remove the predicted box of an identity that was detected elsewhere in the frame."""
    if identity not in frame.identities:
        return frame
    rows = np.flatnonzero(frame.identities != identity)
    return replace(frame, tracks=frame.tracks.select(rows), identities=frame.identities[rows])


def _decided(identities: IntArray, decision: Decision) -> IntArray:
    return np.where(identities == decision.provisional, decision.identity, identities)


def _held(frame: TrackedFrame, embedded: EmbeddedCrops | None) -> _Held:
    return _Held(frame, embedded, set(frame.identities[is_provisional(frame.identities)].tolist()))


def track_columns(tracks: Sequence[Tracks]) -> State:
    """Return the columns of the tracks of several frames, one frame after another."""
    empty = Tracks.empty()
    return {
        field.name: concatenate_rows([getattr(item, field.name) for item in tracks], getattr(empty, field.name))
        for field in fields(Tracks)
    }


def tracks_from(state: Mapping[str, NDArray[Any]], count: IntArray) -> list[Tracks]:
    """Return the tracks of each frame from the columns of `track_columns`.

    Args:
        state: The columns.
        count: `(n,)` int64, number of tracks in each frame.

    Raises:
        ValueError: A column is missing or has another shape or type.
    """
    model = Tracks.empty()
    columns = {field.name: getattr(model, field.name) for field in fields(Tracks)}
    parts = {
        name: split_rows(load_array(state, name, like.dtype.type, -1, *like.shape[1:]), count)
        for name, like in columns.items()
    }
    return [Tracks(**{name: parts[name][row] for name in parts}) for row in range(len(count))]


def _links(rows: NDArray[np.float64], frame: int) -> tuple[Link, ...]:
    rows_of_frame = rows[rows[:, 0] == frame, 1:].tolist()
    return tuple(Link(int(track), int(new), int(old), *numbers) for track, new, old, *numbers in rows_of_frame)


def _embedded_columns(embedded_crops: Sequence[EmbeddedCrops]) -> State:
    return {
        "timestamp": np.array([item.timestamp for item in embedded_crops], np.float64),
        "count": np.array([len(item.identities) for item in embedded_crops], np.int64),
        "identities": concatenate_rows([item.identities for item in embedded_crops], np.empty(0, np.int64)),
        "boxes": concatenate_rows([item.boxes for item in embedded_crops], np.empty((0, 4), np.float32)),
        "scores": concatenate_rows([item.scores for item in embedded_crops], np.empty(0, np.float32)),
        "embeddings": concatenate_rows([item.embeddings for item in embedded_crops], np.empty((0, 0), np.float32)),
        "crops": concatenate_rows([item.crops for item in embedded_crops], np.empty((0, 0, 0, 3), np.uint8)),
    }


def _embedded_from(state: Mapping[str, NDArray[Any]], n: int) -> list[EmbeddedCrops]:
    timestamp, count = load_array(state, "timestamp", np.float64, n).tolist(), load_array(state, "count", np.int64, n)
    columns = [
        load_array(state, "identities", np.int64, -1),
        load_array(state, "boxes", np.float32, -1, 4),
        load_array(state, "scores", np.float32, -1),
        load_array(state, "embeddings", np.float32, -1, -1),
        load_array(state, "crops", np.uint8, -1, -1, -1, 3),
    ]
    rows_by_column = (split_rows(column, count) for column in columns)
    return [EmbeddedCrops(*row) for row in zip(timestamp, *rows_by_column, strict=True)]

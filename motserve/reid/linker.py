"""Maps a tracker's track IDs to lasting identities: a returning person gets the previous identity.

A track is linked to an identity where appearance and motion agree (see `motserve.reid.matching`) and no other track has
the identity. In doubt, motion wins and a new identity is given.

People enter cut off by the border of the picture or partly occluded, so the first embedding is the least reliable. A
track that may be a return stays undecided until a few good embeddings agree, or a time is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.base import State, load_array, merge_states, substate
from motserve.config import ReIDConfig
from motserve.reid.crops import trusted
from motserve.reid.gallery import Gallery
from motserve.reid.identity_table import (
    NO_IDENTITY,
    NO_ROW,
    NO_TRACK,
    IdentityTable,
    distance_in_heights,
    is_provisional,
)
from motserve.reid.matching import IdentityMatcher
from motserve.tracking.time import TOLERANCE_S
from motserve.types import BoolArray, FloatArray, IntArray, Link, Tracks

_MAX_GROWTHS = 64  # growth steps after which every refresh interval is at its maximum


@dataclass(frozen=True, slots=True)
class Decision:
    """The decided identity of an undecided person.

    Attributes:
        provisional: The provisional identity that it replaces, see `is_provisional`.
        identity: The identity.
        link: Why it is the identity of a returning person; None for a new person.
    """

    provisional: int
    identity: int
    link: Link | None


class IdentityLinker:
    """Identities of one video. For each frame call `plan`, embed the rows it returns, then call `link`.

    Args:
        config: Policy, distances, motion gate and gallery.
        size: Width and height of the pictures in pixels; None to treat no box as cut off by the border.
    """

    def __init__(self, config: ReIDConfig, size: tuple[int, int] | None = None) -> None:
        self._config = config
        self._size = size
        self._matcher = IdentityMatcher(config, size)
        self._table = IdentityTable.empty()
        self._gallery = Gallery(config.gallery.size)
        self._next_provisional, self._next_identity = -1, 1
        self._decisions: list[Decision] = []
        self.links = 0
        """How many returning people were given their previous identity."""
        self.trusted: BoolArray = np.empty(0, np.bool_)
        """`(k,)` which embedded rows of the last `link` have a good enough crop; only their embeddings are used."""

    @property
    def identities(self) -> int:
        """How many identities were given so far."""
        return self._next_identity - 1

    def plan(self, tracks: Tracks, timestamp: float) -> IntArray:
        """Return which rows of a frame need an embedding, because it can change the result.

        A new track is embedded a few times if it is within the motion gate of an absent person. Other tracks are
        embedded at growing intervals, so that people have an embedding before they leave.

        Args:
            tracks: The frame's tracks.
            timestamp: Presentation time in seconds.

        Returns:
            `(k,)` int64, ascending rows of `tracks`.
        """
        config = self._config
        if config.policy == "off":
            return np.empty(0, np.int64)
        if not tracks.measured.all():
            measured = np.flatnonzero(tracks.measured)
            return measured[self.plan(tracks.select(measured), timestamp)]
        if config.policy == "always":
            return np.arange(len(tracks))
        rows = self._table.rows_of(tracks.ids)
        known = rows != NO_ROW
        to_embed = np.zeros(len(tracks), np.bool_)
        to_embed[known] = self._is_due(rows[known], timestamp)
        births = ~known & ~np.isin(tracks.ids, self._table.previous_track)
        if config.policy == "interval":
            to_embed[births] = True
        elif births.any():
            now = np.full(np.count_nonzero(births), timestamp)
            absent = self._matcher.absent(self._table, self._gallery, timestamp, rows)
            to_embed[births] = self._matcher.in_gate(self._table, tracks.boxes[births], now, absent).any(axis=1)
        if not to_embed.any():  # `trusted` compares every pair of boxes
            return np.empty(0, np.int64)
        return np.flatnonzero(to_embed & trusted(tracks, config.trust, self._size))

    def link(self, tracks: Tracks, timestamp: float, embedded: IntArray, embeddings: FloatArray) -> IntArray:
        """Give every row of a frame its identity and store the embeddings.

        Args:
            tracks: The frame's tracks.
            timestamp: Presentation time in seconds.
            embedded: `(k,)` rows that `plan` returned.
            embeddings: `(k, d)` float32, unit length, for those rows.

        Returns:
            `(n,)` int64 identities, unique in the frame; `NO_IDENTITY` for a predicted box whose identity another track
            has now; a provisional one for an undecided person, whom a later decision resolves.
        """
        measured = tracks.measured
        if measured.all():
            return self._link(tracks, timestamp, embedded, embeddings)
        # a predicted box is no evidence: it neither keeps its identity from others nor takes part in linking
        rows = np.flatnonzero(measured)
        identities = np.full(len(tracks), NO_IDENTITY)
        measured_tracks = tracks.select(rows)
        identities[rows] = self._link(measured_tracks, timestamp, np.searchsorted(rows, embedded), embeddings)
        identities[~measured] = self._identities_of(tracks.ids[~measured])
        return identities

    def take_decisions(self) -> list[Decision]:
        """Return the decisions since the last call."""
        decisions, self._decisions = self._decisions, []
        return decisions

    def finish(self, timestamp: float) -> None:
        """Decide all undecided identities. Call it at the end of the video.

        Args:
            timestamp: Presentation time of the last frame in seconds.
        """
        self._decide(timestamp, final=True)

    def state_dict(self) -> State:
        """Return a copy of the whole state, after `take_decisions`; with `load_state_dict`, the same future follows."""
        numbers = np.array([self._next_provisional, self._next_identity, self.links], np.int64)
        return merge_states(table=self._table.to_arrays(), gallery=self._gallery.state_dict()) | {"numbers": numbers}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        table, numbers = IdentityTable.from_arrays(substate(state, "table")), load_array(state, "numbers", np.int64, 3)
        self._gallery.load_state_dict(substate(state, "gallery"))
        if len(self._gallery) != len(table):
            raise ValueError(f"the state has gallery rows of {len(self._gallery)} of {len(table)} identities")
        self._table, self._decisions = table, []
        self._next_provisional, self._next_identity, self.links = numbers.tolist()

    def _link(self, tracks: Tracks, timestamp: float, embedded: IntArray, embeddings: FloatArray) -> IntArray:
        """Give rows with a detection their identities; see `link`."""
        self._return_to_previous(tracks.ids)
        births = np.flatnonzero(self._table.rows_of(tracks.ids) == NO_ROW)
        if len(births):
            boxes = tracks.boxes[births]
            new_rows = IdentityTable.for_tracks(self._next_provisional, tracks.ids[births], boxes, timestamp)
            self._table = self._table.concatenated(new_rows)
            self._gallery.append_rows(len(births))
            self._next_provisional -= len(births)
        rows = self._table.rows_of(tracks.ids)
        self._table.seen_at[rows] = timestamp
        self._table.box[rows] = tracks.boxes
        self.trusted = np.zeros(len(embedded), np.bool_)
        if self._config.policy != "off":
            good = trusted(tracks, self._config.trust, self._size)
            self._table.occluded[rows] |= ~good
            if len(embedded):
                self.trusted = good[embedded]
                self._add_embeddings(rows[embedded[self.trusted]], embeddings[self.trusted], timestamp)
        self._decide(timestamp)
        identities = self._identities_of(tracks.ids)
        self._forget(timestamp)
        return identities

    def _add_embeddings(self, rows: IntArray, embeddings: FloatArray, timestamp: float) -> None:
        """Add trusted embeddings to the gallery."""
        table = self._table
        table.last_embedded_at[rows] = timestamp
        table.num_embeddings[rows] += 1
        contradicting = self._gallery.filled[rows]
        if contradicting.any():
            contradicting[contradicting] = self._matcher.contradicts(
                table, self._gallery, rows[contradicting], embeddings[contradicting]
            )
        # one such embedding may be a bad crop; after a second one the track has switched to another person. Motion
        # wins: from now on the identity is this person
        has_switched = contradicting & table.suspect[rows]
        contradicted = np.zeros(len(table), np.bool_)
        contradicted[rows[has_switched]] = True
        self._gallery.clear(contradicted)
        known = ~contradicting | has_switched
        self._gallery.add(rows[known], embeddings[known])
        table.suspect[rows] = table.occluded[rows] = ~known

    def _identities_of(self, tracks: IntArray) -> IntArray:
        """Return identities, `NO_IDENTITY` for tracks without one."""
        rows = self._table.rows_of(tracks)
        identities = np.full(len(tracks), NO_IDENTITY)
        known = rows != NO_ROW
        identities[known] = self._table.identity[rows[known]]
        return identities

    def _is_due(self, rows: IntArray, timestamp: float) -> BoolArray:
        """Tell which rows are due for another embedding."""
        config, table = self._config, self._table
        growth = config.refresh_growth if config.policy == "on_demand" else 1.0
        growths = np.minimum(table.num_embeddings[rows], _MAX_GROWTHS)
        interval = np.minimum(config.refresh_interval_s * growth**growths, config.refresh_max_s)
        due = timestamp - np.maximum(table.last_embedded_at[rows], table.born_at[rows]) >= interval - TOLERANCE_S
        due |= table.occluded[rows]
        undecided = is_provisional(table.identity[rows])
        is_interval_over = timestamp - table.last_embedded_at[rows] >= config.decision.interval_s - TOLERANCE_S
        return np.where(
            undecided, is_interval_over & (table.num_embeddings[rows] < config.decision.num_embeddings), due
        )

    def _return_to_previous(self, tracks: IntArray) -> None:
        """Undo links that motion refutes: the tracker found the track again that had the identity before.

        The linked track loses the identity and counts as a new track of this frame.
        """
        table = self._table
        refuted = np.isin(table.previous_track, tracks) & (table.previous_track != NO_TRACK)
        table.track[refuted] = table.previous_track[refuted]
        table.previous_track[refuted] = NO_TRACK
        table.num_embeddings[refuted] = 0
        self._gallery.clear(refuted)  # some of its embeddings are of the wrongly linked person
        self.links -= int(np.count_nonzero(refuted))

    def _decide(self, timestamp: float, final: bool = False) -> None:
        """Link undecided rows to absent identities, or give them new ones, where that can be decided now."""
        table, config = self._table, self._config
        undecided = np.flatnonzero(is_provisional(table.identity))
        if not len(undecided):
            return
        candidates = self._matcher.candidates(table, self._gallery, undecided, timestamp)
        enough = table.num_embeddings[undecided] >= config.decision.num_embeddings
        overdue = (timestamp - table.born_at[undecided] >= config.decision.wait_s - TOLERANCE_S) | final
        linked = np.zeros(len(undecided), np.bool_)
        pairs, unclaimed = candidates.assign()
        for index, old, distance in pairs:
            row = int(undecided[index])
            if (enough[index] or overdue[index]) and not self._matcher.has_rival(
                self._gallery, row, old, distance, unclaimed
            ):
                self._link_rows(row, old, distance)
                linked[index] = True
        impossible = ~candidates.in_gate.any(axis=1) | (enough & ~candidates.allowed.any(axis=1))
        for row in undecided[~linked & (impossible | overdue)].tolist():
            self._decisions.append(Decision(int(table.identity[row]), self._next_identity, None))
            table.identity[row] = self._next_identity
            self._next_identity += 1
        if linked.any():
            self._keep(~np.isin(np.arange(len(table)), undecided[linked]))

    def _link_rows(self, row: int, old: int, distance: float) -> None:
        """Give the identity of the absent row `old` to the track of `row`."""
        table = self._table
        link = Link(
            track=int(table.track[row]),
            identity=int(table.identity[old]),
            previous_track=int(table.track[old]),
            distance=distance,
            gap_s=float(table.born_at[row] - table.seen_at[old]),
            moved=float(distance_in_heights(table.born_box[row], table.box[old])),
        )
        self._decisions.append(Decision(int(table.identity[row]), link.identity, link))
        self.links += 1
        table.previous_track[old] = table.track[old]
        for column in (
            table.track,
            table.born_at,
            table.born_box,
            table.seen_at,
            table.box,
            table.last_embedded_at,
        ):
            column[old] = column[row]
        table.num_embeddings[old], table.occluded[old], table.suspect[old] = (
            table.num_embeddings[row],
            table.occluded[row],
            False,
        )
        self._gallery.merge(old, row)

    def _forget(self, timestamp: float) -> None:
        """Remove identities that were absent too long, and the longest absent ones beyond the bound."""
        gap = timestamp - self._table.seen_at
        undecided = is_provisional(self._table.identity)
        keep = (gap <= self._config.gallery.memory_s) | undecided
        absent = np.flatnonzero(keep & (gap > 0) & ~undecided)
        excess = len(absent) - self._config.gallery.max_identities
        if excess > 0:
            keep[absent[np.argsort(-gap[absent], kind="stable")[:excess]]] = False
        if not keep.all():
            self._keep(keep)

    def _keep(self, rows: BoolArray) -> None:
        self._table = self._table.select(rows)
        self._gallery.keep(rows)

"""Maps a tracker's track IDs to identities that last: who comes back gets the old identity.

A returning person is recognised where appearance and motion agree: their looks are near to those remembered of an
identity, and nearer than to those of anybody in the picture; they can have come from where it was last seen in the
time since; and nobody was seen with it meanwhile. In doubt, motion wins and a new identity is given.

People enter cut off by the border of the picture or half hidden, so the first look at them tells least. A track that
may be a return stays undecided until a few good looks agree, or a time is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from motserve.base import State, load_array, merge_states, substate
from motserve.config import ReIDConfig
from motserve.reid.crops import at_border, trusted
from motserve.reid.gallery import Gallery
from motserve.reid.identity_table import NO_TRACK, UNDECIDED, People, distance_in_heights, within_gate
from motserve.tracking.time import TOLERANCE_S
from motserve.types import BoolArray, FloatArray, IntArray, Link, Tracks

_MOST_GROWTHS = 64  # of an interval, by which it has reached its longest


@dataclass(frozen=True, slots=True)
class Decision:
    """Who an undecided person is.

    Attributes:
        provisional: The number below 0 that stood in place of the identity.
        identity: The identity.
        link: Why it is that of somebody who had been away; None for somebody new.
    """

    provisional: int
    identity: int
    link: Link | None


class IdentityLinker:
    """Identities of one video. For each frame call `plan`, embed the rows it names, then call `link`.

    Args:
        config: Policy, distance, gates and memory.
        size: Width and height of the pictures in pixels; None to take no box for cut off.
    """

    def __init__(self, config: ReIDConfig, size: tuple[int, int] | None = None) -> None:
        self._config = config
        self._size = size
        self._people = People.nobody()
        self._gallery = Gallery(config.gallery.size)
        self._next_key = self._next_identity = 1
        self._decisions: list[Decision] = []
        self.links = 0
        """How many returning people were given their old identity."""

    @property
    def identities(self) -> int:
        """How many identities were given so far."""
        return self._next_identity - 1

    def plan(self, tracks: Tracks, timestamp: float) -> IntArray:
        """Say which rows of a frame need an embedding, because it can change an answer.

        A track that begins is embedded a few times where somebody who is away could have come there. Everybody else is
        embedded now and then, ever more rarely: people who may leave have to be remembered first.

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
            return measured[self.plan(tracks.part(measured), timestamp)]
        if config.policy == "always":
            return np.arange(len(tracks))
        rows = self._people.rows_of(tracks.ids)
        known = rows >= 0
        wanted = np.zeros(len(tracks), np.bool_)
        wanted[known] = self._is_due(rows[known], timestamp)
        births = ~known & ~np.isin(tracks.ids, self._people.previous_track)
        if config.policy == "interval":
            wanted[births] = True
        elif births.any():
            now = np.full(np.count_nonzero(births), timestamp)
            wanted[births] = self._reach(tracks.boxes[births], now, self._remembered(timestamp, rows)).any(axis=1)
        if not wanted.any():  # what follows compares all boxes with all
            return np.empty(0, np.int64)
        return np.flatnonzero(wanted & trusted(tracks, config.trust, self._size))

    def link(self, tracks: Tracks, timestamp: float, embedded: IntArray, embeddings: FloatArray) -> IntArray:
        """Give every row of a frame its identity and remember the embeddings.

        Args:
            tracks: The frame's tracks.
            timestamp: Presentation time in seconds.
            embedded: `(k,)` rows that `plan` named.
            embeddings: `(k, d)` float32, unit length, for those rows.

        Returns:
            `(n,)` int64 identities, unique in the frame; 0 for a predicted box whose identity somebody else holds now;
            below 0 for somebody undecided, of whom a decision will tell.
        """
        measured = tracks.measured
        if measured.all():
            return self._link(tracks, timestamp, embedded, embeddings)
        # a predicted box says nothing of anybody: it neither holds its identity nor takes part in linking
        rows = np.flatnonzero(measured)
        identities = np.zeros(len(tracks), np.int64)
        seen = tracks.part(rows)
        identities[rows] = self._link(seen, timestamp, np.searchsorted(rows, embedded), embeddings)
        identities[~measured] = self._identities_of(tracks.ids[~measured])
        return identities

    def decisions(self) -> list[Decision]:
        """Return what was decided since the last call."""
        decisions, self._decisions = self._decisions, []
        return decisions

    def finish(self, timestamp: float) -> None:
        """Decide about everybody who is undecided: the video has ended.

        Args:
            timestamp: Presentation time of the last frame in seconds.
        """
        self._decide(timestamp, final=True)

    def state_dict(self) -> State:
        """Return a copy of the whole state, once `decisions` were fetched; `load_state_dict` gives the same future."""
        numbers = np.array([self._next_key, self._next_identity, self.links], np.int64)
        return merge_states(people=self._people.to_arrays(), gallery=self._gallery.state_dict()) | {"numbers": numbers}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state by one that `state_dict` returned.

        Raises:
            ValueError: An array is missing or has another shape or type.
        """
        people, numbers = People.restored(substate(state, "people")), load_array(state, "numbers", np.int64, 3)
        self._gallery.load_state_dict(substate(state, "gallery"))
        if len(self._gallery) != len(people):
            raise ValueError(f"the state remembers {len(self._gallery)} of {len(people)} people")
        self._people, self._decisions = people, []
        self._next_key, self._next_identity, self.links = numbers.tolist()

    def _link(self, tracks: Tracks, timestamp: float, embedded: IntArray, embeddings: FloatArray) -> IntArray:
        """Give rows that stand on detections their identities; see `link`."""
        self._return_to_previous(tracks.ids)
        births = np.flatnonzero(self._people.rows_of(tracks.ids) < 0)
        if len(births):
            born = People.born(self._next_key, tracks.ids[births], tracks.boxes[births], timestamp)
            self._people = self._people.joined(born)
            self._gallery.append_rows(len(births))
            self._next_key += len(births)
        rows = self._people.rows_of(tracks.ids)
        self._people.seen_at[rows] = timestamp
        self._people.box[rows] = tracks.boxes
        if self._config.policy != "off":
            good = trusted(tracks, self._config.trust, self._size)
            self._people.hidden[rows] |= ~good
            if len(embedded):
                kept = good[embedded]
                self._remember(rows[embedded[kept]], embeddings[kept], timestamp)
        self._decide(timestamp)
        identities = self._identities_of(tracks.ids)
        self._forget(timestamp)
        return identities

    def _remember(self, rows: IntArray, embeddings: FloatArray, timestamp: float) -> None:
        """Add good looks at people to what is remembered of them."""
        people = self._people
        people.last_embedded_at[rows] = timestamp
        people.looks[rows] += 1
        strange = self._gallery.filled[rows]
        if strange.any():
            strange[strange] = self._shows_somebody_else(rows[strange], embeddings[strange])
        # one such look may be a bad crop; after the second the tracker has taken somebody else for them. Motion wins:
        # from now on it is this person
        again = strange & people.suspect[rows]
        contradicted = np.zeros(len(people), np.bool_)
        contradicted[rows[again]] = True
        self._gallery.clear(contradicted)
        known = ~strange | again
        self._gallery.add(rows[known], embeddings[known])
        people.suspect[rows] = people.hidden[rows] = ~known

    def _shows_somebody_else(self, rows: IntArray, embeddings: FloatArray) -> BoolArray:
        """Tell which looks are too far from all that is remembered of the person, or nearer to another."""
        config, known = self._config, np.flatnonzero(self._known())
        own = self._gallery.nearest(rows, embeddings)
        others = np.where(known[None] == rows[:, None], np.inf, self._gallery.nearest_of(known, embeddings))
        nearer = others.min(axis=1, initial=np.inf) + config.decision.margin < own
        return np.asarray((own > config.gallery.contradiction) | ((own > config.max_distance) & nearer))

    def _identities_of(self, tracks: IntArray) -> IntArray:
        """Return identities, below 0 for who is undecided, 0 for tracks that hold none."""
        rows = self._people.rows_of(tracks)
        identities = np.zeros(len(tracks), np.int64)
        held = rows >= 0
        identity, key = self._people.identity[rows[held]], self._people.key[rows[held]]
        identities[held] = np.where(identity == UNDECIDED, -key, identity)
        return identities

    def _is_due(self, rows: IntArray, timestamp: float) -> BoolArray:
        """Tell whose looks are to be taken again."""
        config, people = self._config, self._people
        growth = config.refresh_growth if config.policy == "on_demand" else 1.0
        growths = np.minimum(people.looks[rows], _MOST_GROWTHS)
        interval = np.minimum(config.refresh_interval_s * growth**growths, config.refresh_max_s)
        due = timestamp - np.maximum(people.last_embedded_at[rows], people.born_at[rows]) >= interval - TOLERANCE_S
        due |= people.hidden[rows]
        undecided = people.identity[rows] == UNDECIDED
        again = timestamp - people.last_embedded_at[rows] >= config.decision.interval_s - TOLERANCE_S
        return np.where(undecided, again & (people.looks[rows] < config.decision.num_embeddings), due)

    def _known(self) -> BoolArray:
        """Return `(n,)` whose identity and looks are known."""
        return np.asarray(self._gallery.filled & (self._people.identity != UNDECIDED))

    def _remembered(self, timestamp: float, present: IntArray) -> IntArray:
        """Return rows of people with an identity and an embedding who are not among those present."""
        away = self._known() & (self._people.seen_at < timestamp)
        away[present[present >= 0]] = False
        if not self._config.gate.reentry:
            away &= ~at_border(self._people.box, self._size, self._config.gate.exit_border)
        return np.flatnonzero(away)

    def _reach(self, boxes: FloatArray, at: np.ndarray[tuple[int], np.dtype[np.float64]], away: IntArray) -> BoolArray:
        """Return `(n, a)` who of those away can have come to which box in the time."""
        people, config = self._people, self._config
        last, seen_at = people.box[None, away], people.seen_at[None, away]
        return within_gate(last, seen_at, boxes[:, None], at[:, None], config.gate.slack, config.gate.max_speed)

    def _return_to_previous(self, tracks: IntArray) -> None:
        """Undo links that motion refutes: the tracker found again the track that held the identity before.

        The track that appearance had linked loses the identity and becomes a birth of this frame.
        """
        people = self._people
        refuted = np.isin(people.previous_track, tracks) & (people.previous_track != NO_TRACK)
        people.track[refuted] = people.previous_track[refuted]
        people.previous_track[refuted] = NO_TRACK
        people.looks[refuted] = 0
        self._gallery.clear(refuted)  # some of its embeddings show the person who was linked wrongly
        self.links -= int(np.count_nonzero(refuted))

    def _decide(self, timestamp: float, final: bool = False) -> None:
        """Link undecided people to identities, or give them new ones, as far as that can be told."""
        people, config = self._people, self._config
        undecided = np.flatnonzero(people.identity == UNDECIDED)
        if not len(undecided):
            return
        away = self._remembered(timestamp, np.empty(0, np.int64))
        possible = self._reach(people.born_box[undecided], people.born_at[undecided], away)
        looked = self._gallery.filled[undecided]
        cost = np.full(possible.shape, np.inf, np.float32)
        if looked.any() and len(away):
            cost[looked] = self._gallery.distances(undecided[looked], away)
            nearest = self._nearest_present(undecided[looked], timestamp)
            cost[looked] = np.where(cost[looked] + config.decision.margin <= nearest[:, None], cost[looked], np.inf)
        allowed = possible & (cost <= config.max_distance)
        # a pair that is not allowed costs more than all allowed ones together, so it never displaces one
        forbidden = np.float32(config.max_distance * len(undecided) + 1)
        chosen, choice = linear_sum_assignment(np.where(allowed, cost, forbidden))
        enough = people.looks[undecided] >= config.decision.num_embeddings
        late = (timestamp - people.born_at[undecided] >= config.decision.wait_s - TOLERANCE_S) | final
        linked = np.zeros(len(undecided), np.bool_)
        left = away[~np.isin(np.arange(len(away)), choice[allowed[chosen, choice]])]
        for one, other in zip(chosen.tolist(), choice.tolist(), strict=True):
            if not allowed[one, other] or not (enough[one] or late[one]):
                continue
            row, old, distance = int(undecided[one]), int(away[other]), float(cost[one, other])
            if not self._has_rival(row, old, distance, left):
                self._join(row, old, distance)
                linked[one] = True
        hopeless = ~possible.any(axis=1) | (enough & ~allowed.any(axis=1))
        for row in undecided[~linked & (hopeless | late)].tolist():
            people.identity[row] = self._next_identity
            self._decisions.append(Decision(-int(people.key[row]), self._next_identity, None))
            self._next_identity += 1
        if linked.any():
            self._keep(~np.isin(np.arange(len(people)), undecided[linked]))

    def _has_rival(self, row: int, old: int, distance: float, rivals: IntArray) -> bool:
        """Tell whether somebody else who is away is as near as the identity, and is not the same person twice."""
        if not len(rivals):
            return False
        unlike = self._gallery.distances(np.array([old]), rivals)[0] > self._config.max_distance
        to_rivals = self._gallery.distances(np.array([row]), rivals)[0][unlike]
        return bool((to_rivals < distance + self._config.decision.margin).any())

    def _nearest_present(self, rows: IntArray, timestamp: float) -> FloatArray:
        """Return `(n,)` the distance of each to the nearest identity in the picture, inf where there is none."""
        present = self._known() & (self._people.seen_at == timestamp)
        if not present.any():
            return np.full(len(rows), np.inf, np.float32)
        return np.asarray(self._gallery.distances(rows, np.flatnonzero(present)).min(axis=1))

    def _join(self, row: int, old: int, distance: float) -> None:
        """Give the identity of one row, who was away, to the track of another."""
        people = self._people
        link = Link(
            track=int(people.track[row]),
            identity=int(people.identity[old]),
            previous_track=int(people.track[old]),
            distance=distance,
            gap_s=float(people.born_at[row] - people.seen_at[old]),
            moved=float(distance_in_heights(people.born_box[row], people.box[old])),
        )
        self._decisions.append(Decision(-int(people.key[row]), link.identity, link))
        self.links += 1
        people.previous_track[old] = people.track[old]
        for column in (
            people.track,
            people.born_at,
            people.born_box,
            people.seen_at,
            people.box,
            people.last_embedded_at,
        ):
            column[old] = column[row]
        people.looks[old], people.hidden[old], people.suspect[old] = people.looks[row], people.hidden[row], False
        self._gallery.merge(old, row)

    def _forget(self, timestamp: float) -> None:
        """Drop who was away too long, and the longest absent where there are too many."""
        gap = timestamp - self._people.seen_at
        undecided = self._people.identity == UNDECIDED
        keep = (gap <= self._config.gallery.memory_s) | undecided
        absent = np.flatnonzero(keep & (gap > 0) & ~undecided)
        excess = len(absent) - self._config.gallery.max_identities
        if excess > 0:
            keep[absent[np.argsort(-gap[absent], kind="stable")[:excess]]] = False
        if not keep.all():
            self._keep(keep)

    def _keep(self, rows: BoolArray) -> None:
        self._people = self._people.part(rows)
        self._gallery.keep(rows)

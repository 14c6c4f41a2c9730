"""Maps a tracker's track IDs to identities that last: who comes back gets the old identity.

A returning person is recognised where appearance and motion agree: cosine distance to the best remembered embedding,
a plausible speed between the last and the new position, and an identity that nobody in the frame holds. In doubt,
motion wins and a new identity is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from motserve.config import ReIDConfig
from motserve.reid.crops import overlap_share
from motserve.reid.gallery import Gallery
from motserve.types import BoolArray, FloatArray, IntArray, Tracks

_NO_TRACK = 0
"""Track IDs start at 1."""


@dataclass(frozen=True, slots=True)
class _People:
    """Everyone who is present or remembered; a row each, the gallery has the same rows."""

    identity: IntArray
    track: IntArray
    """Track that holds the identity now."""
    former: IntArray
    """Track that held it before the last link; it takes the identity back if the tracker finds it again."""
    seen_at: np.ndarray[tuple[int], np.dtype[np.float64]]
    box: FloatArray

    def __len__(self) -> int:
        return len(self.identity)

    def keep(self, rows: BoolArray) -> _People:
        return _People(*(getattr(self, name)[rows] for name in self.__slots__))


class IdentityLinker:
    """Identities of one video. For each frame call `plan`, embed the rows it names, then call `link`.

    Args:
        config: Policy, distance, gates and memory.
    """

    def __init__(self, config: ReIDConfig) -> None:
        self._config = config
        empty = np.empty(0, np.int64)
        self._people = _People(empty, empty, empty, np.empty(0), np.empty((0, 4), np.float32))
        self._gallery = Gallery(config.gallery.size)
        self._next_identity = 1
        self._tick = 0
        self.links = 0
        """How many returning people were given their old identity."""

    @property
    def identities(self) -> int:
        """How many identities were given so far."""
        return self._next_identity - 1

    def plan(self, tracks: Tracks, timestamp: float) -> IntArray:
        """Say which rows of a frame need an embedding, because it can change an answer.

        Births are embedded where an absent identity could plausibly be theirs. All others are embedded together each
        `refresh_interval_s`, if their crop can be trusted: people who may leave have to be remembered first.

        Args:
            tracks: The frame's tracks.
            timestamp: Presentation time in seconds.

        Returns:
            `(k,)` int64, ascending rows of `tracks`.
        """
        if self._config.policy == "off":
            return np.empty(0, np.int64)
        if not tracks.measured.all():
            measured = np.flatnonzero(tracks.measured)
            return measured[self.plan(tracks.part(measured), timestamp)]
        if self._config.policy == "always":
            return np.arange(len(tracks))
        rows = self._rows_of(tracks.ids)
        births = (rows < 0) & ~np.isin(tracks.ids, self._people.former)
        height = tracks.boxes[:, 3] - tracks.boxes[:, 1]
        wanted = np.zeros(len(tracks), np.bool_)
        if births.any():
            wanted[births] = self._plausible(tracks.boxes[births], self._absent(rows), timestamp).any(axis=1)
        if int(timestamp / self._config.refresh_interval_s) > self._tick:
            wanted |= overlap_share(tracks.boxes) <= self._config.max_overlap
        return np.flatnonzero(wanted & (height >= self._config.min_height))

    def link(self, tracks: Tracks, timestamp: float, embedded: IntArray, embeddings: FloatArray) -> IntArray:
        """Give every row of a frame its identity and remember the embeddings.

        Args:
            tracks: The frame's tracks.
            timestamp: Presentation time in seconds.
            embedded: `(k,)` rows that `plan` named.
            embeddings: `(k, d)` float32, unit length, for those rows.

        Returns:
            `(n,)` int64 identities, unique in the frame; 0 for a predicted box whose identity somebody else holds now.
        """
        measured = tracks.measured
        if measured.all():
            return self._link(tracks, timestamp, embedded, embeddings)
        # a predicted box says nothing of anybody: it neither holds its identity nor takes part in linking
        rows = np.flatnonzero(measured)
        identities = np.zeros(len(tracks), np.int64)
        seen = tracks.part(rows)
        identities[rows] = self._link(seen, timestamp, np.searchsorted(rows, embedded), embeddings)
        people = self._rows_of(tracks.ids)
        ghosts = np.flatnonzero(~measured & (people >= 0))
        identities[ghosts] = self._people.identity[people[ghosts]]
        return identities

    def _link(self, tracks: Tracks, timestamp: float, embedded: IntArray, embeddings: FloatArray) -> IntArray:
        """Give rows that stand on detections their identities; see `link`."""
        self._tick = int(timestamp / self._config.refresh_interval_s)
        self._return_to_former(tracks.ids)
        rows = self._rows_of(tracks.ids)
        births = np.flatnonzero(rows < 0)
        if len(births):
            with_embedding = np.isin(embedded, births)
            rows[births] = self._settle(
                tracks, births, embedded[with_embedding], embeddings[with_embedding], self._absent(rows), timestamp
            )
        self._people.seen_at[rows] = timestamp
        self._people.box[rows] = tracks.boxes
        if len(embedded):
            self._gallery.add(rows[embedded], embeddings)
        identities = self._people.identity[rows]
        self._forget(timestamp)
        return identities

    def _rows_of(self, track_ids: IntArray) -> IntArray:
        """Return the row of the person who holds each track, -1 for tracks not known."""
        if not len(self._people):
            return np.full(len(track_ids), -1)
        order = np.argsort(self._people.track)
        place = np.searchsorted(self._people.track, track_ids, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)]
        return np.where(self._people.track[rows] == track_ids, rows, -1)

    def _absent(self, present: IntArray) -> IntArray:
        """Return rows of remembered people who are not in the frame and have an embedding."""
        absent = self._gallery.filled.copy()
        absent[present[present >= 0]] = False
        return np.flatnonzero(absent)

    def _plausible(self, boxes: FloatArray, absent: IntArray, timestamp: float) -> BoolArray:
        """Return `(n, a)` whether an absent person can have come to a box in the time since."""
        last = self._people.box[absent]
        gap = timestamp - self._people.seen_at[absent]
        moved = np.linalg.norm(_centre(boxes)[:, None] - _centre(last)[None], axis=2)
        height = ((boxes[:, 3] - boxes[:, 1])[:, None] + (last[:, 3] - last[:, 1])[None]) / 2
        return np.asarray(moved <= height * (self._config.slack + self._config.max_speed * gap))

    def _return_to_former(self, track_ids: IntArray) -> None:
        """Undo links that motion refutes: the tracker found again the track that held the identity before.

        The track that appearance had linked loses the identity and becomes a birth of this frame.
        """
        refuted = np.isin(self._people.former, track_ids) & (self._people.former != _NO_TRACK)
        self._people.track[refuted] = self._people.former[refuted]
        self._people.former[refuted] = _NO_TRACK
        self._gallery.clear(refuted)  # some of its embeddings show the person who was linked wrongly
        self.links -= int(np.count_nonzero(refuted))

    def _settle(
        self,
        tracks: Tracks,
        births: IntArray,
        embedded: IntArray,
        embeddings: FloatArray,
        absent: IntArray,
        timestamp: float,
    ) -> IntArray:
        """Return a row for each birth: of the absent person it is linked to, or a new one."""
        owner = np.full(len(tracks), -1)
        if len(embedded) and len(absent):
            cost = self._gallery.distances(absent, embeddings)
            allowed = cost <= self._config.max_distance
            allowed &= self._plausible(tracks.boxes[embedded], absent, timestamp)
            # a pair that is not allowed costs more than all allowed ones together, so it never displaces one
            forbidden = np.float32(self._config.max_distance * len(embedded) + 1)
            chosen = linear_sum_assignment(np.where(allowed, cost, forbidden))
            linked = allowed[chosen]
            owner[embedded[chosen[0][linked]]] = absent[chosen[1][linked]]
        rows = owner[births]
        old = rows[rows >= 0]
        self._people.former[old] = self._people.track[old]
        self._people.track[old] = tracks.ids[births[rows >= 0]]
        self.links += len(old)
        new = rows < 0
        rows[new] = self._append(tracks.ids[births[new]])
        return rows

    def _append(self, track_ids: IntArray) -> IntArray:
        count = len(track_ids)
        first = len(self._people)
        new = _People(
            np.arange(self._next_identity, self._next_identity + count),
            track_ids,
            np.full(count, _NO_TRACK),
            np.zeros(count),
            np.zeros((count, 4), np.float32),
        )
        self._people = _People(
            *(np.concatenate([getattr(self._people, name), getattr(new, name)]) for name in _People.__slots__)
        )
        self._gallery.append_rows(count)
        self._next_identity += count
        return np.arange(first, first + count)

    def _forget(self, timestamp: float) -> None:
        """Drop who was away too long, and the longest absent where there are too many."""
        gap = timestamp - self._people.seen_at
        keep = gap <= self._config.gallery.memory_s
        absent = np.flatnonzero(keep & (gap > 0))
        excess = len(absent) - self._config.gallery.max_identities
        if excess > 0:
            keep[absent[np.argsort(-gap[absent], kind="stable")[:excess]]] = False
        if not keep.all():
            self._people = self._people.keep(keep)
            self._gallery.keep(keep)


def _centre(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, np.float32)

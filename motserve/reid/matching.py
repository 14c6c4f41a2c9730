"""Matches tracks with identities: a pair is allowed where appearance and motion agree.

An absent identity may be that of an undecided track if its last box is within the motion gate of the track's first box,
and its embeddings are near to the track's, nearer than those of any person in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from motserve.config import ReIDConfig
from motserve.reid.crops import at_border
from motserve.reid.gallery import Gallery
from motserve.reid.identity_table import NO_ROW, IdentityTable, is_provisional, within_gate
from motserve.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of undecided rows and absent identities.

    Attributes:
        absent: `(a,)` int64, rows of the absent identities.
        in_gate: `(n, a)` bool, pairs within the motion gate.
        allowed: `(n, a)` bool, pairs in the gate whose distance is at most `max_distance`.
        distance: `(n, a)` float32, cosine distance; inf without an embedding, and where a person in the picture is
            about as near.
        max_distance: Largest cosine distance of a link.
    """

    absent: IntArray
    in_gate: BoolArray
    allowed: BoolArray
    distance: FloatArray
    max_distance: float

    def assign(self) -> tuple[list[tuple[int, int, float]], IntArray]:
        """Assign undecided rows to absent identities, each at most once, with the smallest total distance.

        Returns:
            For each assigned pair its position among the undecided rows, the row of the absent identity and the
            distance; and the absent rows without a pair.
        """
        # a pair that is not allowed costs more than all allowed pairs together, so it never displaces one
        forbidden = np.float32(self.max_distance * len(self.allowed) + 1)
        rows, columns = linear_sum_assignment(np.where(self.allowed, self.distance, forbidden))
        is_allowed = self.allowed[rows, columns]
        rows, columns = rows[is_allowed], columns[is_allowed]
        old, distances = self.absent[columns], self.distance[rows, columns]
        unclaimed = self.absent[~np.isin(np.arange(len(self.absent)), columns)]
        return list(zip(rows.tolist(), old.tolist(), distances.tolist(), strict=True)), unclaimed


class IdentityMatcher:
    """Compares the rows of an identity table by appearance and motion. Holds no state between calls.

    Args:
        config: Distances and motion gate.
        size: Width and height of the pictures in pixels; None to treat no box as cut off by the border.
    """

    def __init__(self, config: ReIDConfig, size: tuple[int, int] | None) -> None:
        self._config = config
        self._size = size

    def absent(self, table: IdentityTable, gallery: Gallery, timestamp: float, present: IntArray) -> IntArray:
        """Return the rows with an identity and an embedding that are not present.

        Args:
            table: The identities.
            gallery: Their embeddings.
            timestamp: Now, in seconds; rows of this time are present.
            present: Further rows that are present; `NO_ROW` for none.
        """
        absent = _recognisable(table, gallery) & (table.seen_at < timestamp)
        absent[present[present != NO_ROW]] = False
        if not self._config.gate.reentry:
            absent &= ~at_border(table.box, self._size, self._config.gate.exit_border)
        return np.flatnonzero(absent)

    def in_gate(self, table: IdentityTable, boxes: FloatArray, at: NDArray[np.float64], absent: IntArray) -> BoolArray:
        """Return `(n, a)` whether each of `(n, 4)` boxes, at `(n,)` seconds, is in the gate of each absent row."""
        last, seen_at, gate = table.box[None, absent], table.seen_at[None, absent], self._config.gate
        return within_gate(last, seen_at, boxes[:, None], at[:, None], gate.slack, gate.max_speed)

    def candidates(self, table: IdentityTable, gallery: Gallery, undecided: IntArray, timestamp: float) -> Candidates:
        """Compare undecided rows with all absent identities.

        Args:
            table: The identities.
            gallery: Their embeddings.
            undecided: `(n,)` int64, rows to compare.
            timestamp: Now, in seconds.
        """
        config = self._config
        absent = self.absent(table, gallery, timestamp, np.empty(0, np.int64))
        in_gate = self.in_gate(table, table.born_box[undecided], table.born_at[undecided], absent)
        has_embedding = gallery.filled[undecided]
        distance = np.full(in_gate.shape, np.inf, np.float32)
        if has_embedding.any() and len(absent):
            embedded = undecided[has_embedding]
            distances = gallery.distances(embedded, absent)
            nearest = self._nearest_present(table, gallery, embedded, timestamp)
            is_nearer = distances + config.decision.margin <= nearest[:, None]
            distance[has_embedding] = np.where(is_nearer, distances, np.inf)
        allowed = in_gate & (distance <= config.max_distance)
        return Candidates(absent, in_gate, allowed, distance, config.max_distance)

    def has_rival(self, gallery: Gallery, row: int, old: int, distance: float, rivals: IntArray) -> bool:
        """Tell whether another absent identity is about as near, and is not the same person under two identities.

        Args:
            gallery: The embeddings.
            row: The undecided row.
            old: The absent row that it was assigned to.
            distance: Their cosine distance.
            rivals: `(r,)` int64, other absent rows.
        """
        if not len(rivals):
            return False
        other_person = gallery.distances(np.array([old]), rivals)[0] > self._config.max_distance
        to_rivals = gallery.distances(np.array([row]), rivals)[0][other_person]
        return bool((to_rivals < distance + self._config.decision.margin).any())

    def contradicts(self, table: IdentityTable, gallery: Gallery, rows: IntArray, embeddings: FloatArray) -> BoolArray:
        """Tell which embeddings are too far from all stored ones of the person, or nearer to another person.

        Args:
            table: The identities.
            gallery: Their embeddings.
            rows: `(m,)` int64, rows with stored embeddings.
            embeddings: `(m, d)` float32, a new embedding of each.
        """
        config, known = self._config, np.flatnonzero(_recognisable(table, gallery))
        own = gallery.nearest(rows, embeddings)
        others = np.where(known[None] == rows[:, None], np.inf, gallery.nearest_of(known, embeddings))
        nearer = others.min(axis=1, initial=np.inf) + config.decision.margin < own
        return np.asarray((own > config.gallery.contradiction) | ((own > config.max_distance) & nearer))

    def _nearest_present(self, table: IdentityTable, gallery: Gallery, rows: IntArray, timestamp: float) -> FloatArray:
        """Return `(n,)` the distance of each row to the nearest identity in the picture, inf without any."""
        present = _recognisable(table, gallery) & (table.seen_at == timestamp)
        if not present.any():
            return np.full(len(rows), np.inf, np.float32)
        return np.asarray(gallery.distances(rows, np.flatnonzero(present)).min(axis=1))


def _recognisable(table: IdentityTable, gallery: Gallery) -> BoolArray:
    """Return `(n,)` which rows have an identity and an embedding."""
    return np.asarray(gallery.filled & ~is_provisional(table.identity))

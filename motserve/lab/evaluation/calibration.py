"""Finds the cosine distance at which somebody may be taken for a person who was here before.

Cosine distances have another scale with each model: what is one person to the one is a crowd to the other. So returns
are played through with labelled crops, as often by strangers as by people who were here, and the distance is chosen by
the share of links that would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motserve.config import CalibrationConfig, ReIDConfig
from motserve.errors import InvalidData
from motserve.types import FloatArray, IntArray

_LEAST_CROPS = 2  # of a person: one to remember, one to come back with


@dataclass(frozen=True, slots=True)
class Returns:
    """Returns that were played through.

    Attributes:
        distances: `(n,)` float64, rising, to the nearest person remembered, as the linker compares.
        is_right: `(n,)` bool, whether that is who came.
        comers: How many of them had been here before.
        own: `(m,)` float64, distances of single looks at people to the nearest that is remembered of themselves.
    """

    distances: NDArray[np.float64]
    is_right: NDArray[np.bool_]
    comers: int
    own: NDArray[np.float64]

    def contradiction(self, share: float) -> float:
        """Return the distance beyond which only this share of looks at a person are from their own earlier ones."""
        return float(np.quantile(self.own, 1 - share))

    def threshold(self, false_share: float) -> Threshold | None:
        """Return the largest distance with at most this share of false links, None where none has so few."""
        right = np.cumsum(self.is_right)
        links = np.arange(1, len(right) + 1)
        good = np.flatnonzero((links - right <= false_share * links) & (right > 0))
        if not len(good):
            return None
        last = good[-1]
        return Threshold(
            float(self.distances[last]), float(1 - right[last] / links[last]), float(right[last] / self.comers)
        )


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a distance comes to.

    Attributes:
        distance: Largest cosine distance that links.
        false_share: Share of links that are wrong.
        found: Share of those who come back that are recognised.
    """

    distance: float
    false_share: float
    found: float


def play_returns(
    embeddings: FloatArray, identities: IntArray, places: IntArray, reid: ReIDConfig, config: CalibrationConfig
) -> Returns:
    """Play returns through, each at one place.

    Somebody comes, with `reid.decision.num_embeddings` crops, to a place where `remembered` people were seen, each with
    `reid.gallery.size` crops that come earlier in the order given. All distances are those of the linker: of each look
    to the nearest that is remembered, averaged.

    Args:
        embeddings: `(n, d)` float32, unit vectors, in the order of time where there is one.
        identities: `(n,)` int64, who is on each crop.
        places: `(n,)` int64, camera or video of each crop.
        reid: Gallery and looks.
        config: How many returns, among how many people.

    Raises:
        InvalidData: No place has enough people.
    """
    rng = np.random.default_rng(config.seed)
    casts = []
    for place in np.unique(places).tolist():
        rows = np.flatnonzero(places == place)
        people = [rows[identities[rows] == who] for who in np.unique(identities[rows]).tolist()]
        people = [crops for crops in people if len(crops) >= _LEAST_CROPS]
        if len(people) > config.remembered:
            casts.append(people)
    if not casts:
        raise InvalidData(
            f"no camera or video has more than {config.remembered} people with {_LEAST_CROPS} crops or more; set "
            "evaluation.calibration.remembered lower or give more data"
        )
    outcomes = [_play(embeddings, casts[trial % len(casts)], reid, config, rng) for trial in range(config.trials)]
    distances = np.array([outcome.distance for outcome in outcomes])
    is_right = np.array([outcome.is_right for outcome in outcomes])
    order = np.argsort(distances, kind="stable")
    own = [outcome.own for outcome in outcomes if len(outcome.own)]
    if not own:
        raise InvalidData("nobody came back in all trials; set evaluation.calibration.trials higher")
    return Returns(distances[order], is_right[order], len(own), np.concatenate(own))


@dataclass(frozen=True, slots=True)
class _Outcome:
    distance: float
    is_right: bool
    own: FloatArray
    """Distances of each look to one's own earlier ones; none for a stranger."""


def _play(
    embeddings: FloatArray,
    people: list[NDArray[np.intp]],
    reid: ReIDConfig,
    config: CalibrationConfig,
    rng: np.random.Generator,
) -> _Outcome:
    """Let one person come."""
    chosen = rng.choice(len(people), config.remembered + 1, replace=False)
    is_stranger = bool(rng.random() < config.strangers)
    comer = int(chosen[-1] if is_stranger else chosen[0])
    looks = _later(people[comer], reid.decision.num_embeddings)
    distances = []
    own = np.empty(0, np.float32)
    for who in chosen[:-1].tolist():
        earlier = people[who][: len(people[who]) - len(_later(people[who], reid.decision.num_embeddings))]
        kept = rng.permutation(earlier)[: reid.gallery.size]
        nearest_of_each = (1 - embeddings[looks] @ embeddings[kept].T).min(axis=1)
        distances.append(float(nearest_of_each.mean()))
        if who == comer:
            own = nearest_of_each
    nearest = int(np.argmin(distances))
    return _Outcome(distances[nearest], not is_stranger and nearest == 0, own)


def _later(crops: NDArray[np.intp], looks: int) -> NDArray[np.intp]:
    """Return the last crops of a person, at most half of them."""
    return crops[len(crops) - min(looks, len(crops) // 2) :]

"""Finds the largest cosine distance at which a new track may be linked to an earlier identity.

The scale of cosine distances differs between models. So open-set re-identification is simulated with labelled crops:
people of the gallery return and impostors arrive. The distance is chosen by the share of links that would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motserve.config import CalibrationConfig, ReIDConfig
from motserve.errors import InvalidData
from motserve.types import FloatArray, IntArray

_LEAST_CROPS = 2  # of a person: one for the gallery, one for the return


@dataclass(frozen=True, slots=True)
class Returns:
    """Simulated returns.

    Attributes:
        distances: `(n,)` float64, rising, distance to the nearest person of the gallery, computed as by the linker.
        is_right: `(n,)` bool, whether that is the right person.
        genuine: Number of returns of people in the gallery; the others are impostors.
        own: `(m,)` float64, distance of single embeddings to the nearest in the gallery of the same person.
    """

    distances: NDArray[np.float64]
    is_right: NDArray[np.bool_]
    genuine: int
    own: NDArray[np.float64]

    def contradiction(self, false_reject_rate: float) -> float:
        """Return the distance to the person's own gallery that only this share of embeddings exceeds."""
        return float(np.quantile(self.own, 1 - false_reject_rate))

    def threshold(self, false_share: float) -> Threshold | None:
        """Return the largest distance with at most this share of false links; None if there is none."""
        right = np.cumsum(self.is_right)
        links = np.arange(1, len(right) + 1)
        good = np.flatnonzero((links - right <= false_share * links) & (right > 0))
        if not len(good):
            return None
        last = good[-1]
        return Threshold(
            float(self.distances[last]), float(1 - right[last] / links[last]), float(right[last] / self.genuine)
        )


@dataclass(frozen=True, slots=True)
class Threshold:
    """A distance limit and its effect.

    Attributes:
        distance: Largest cosine distance of a link.
        false_share: Share of links that are wrong.
        found: Share of returning people that are recognised.
    """

    distance: float
    false_share: float
    found: float


def simulate_returns(
    embeddings: FloatArray, identities: IntArray, cameras: IntArray, reid: ReIDConfig, config: CalibrationConfig
) -> Returns:
    """Simulate returns, each at one camera.

    A person appears, with `reid.decision.num_embeddings` crops, at a camera whose gallery has `gallery_identities`
    people with `reid.gallery.size` earlier crops each. Distances are those of the linker: the mean, over the
    embeddings, of the distance to the nearest in the gallery.

    Args:
        embeddings: `(n, d)` float32, unit vectors, in order of time if there is one.
        identities: `(n,)` int64, person on each crop.
        cameras: `(n,)` int64, camera or video of each crop.
        reid: Size of the gallery and number of embeddings.
        config: Number of arrivals, of people in the gallery, and so on.

    Raises:
        InvalidData: No camera has enough people.
    """
    rng = np.random.default_rng(config.seed)
    crops_by_camera = []
    for camera in np.unique(cameras).tolist():
        rows = np.flatnonzero(cameras == camera)
        people = [rows[identities[rows] == identity] for identity in np.unique(identities[rows]).tolist()]
        people = [crops for crops in people if len(crops) >= _LEAST_CROPS]
        if len(people) > config.gallery_identities:
            crops_by_camera.append(people)
    if not crops_by_camera:
        raise InvalidData(
            f"no camera or video has more than {config.gallery_identities} people with {_LEAST_CROPS} crops or more; "
            "lower evaluation.calibration.gallery_identities or give more data"
        )
    outcomes = [
        _simulate_return(embeddings, crops_by_camera[trial % len(crops_by_camera)], reid, config, rng)
        for trial in range(config.trials)
    ]
    distances = np.array([outcome.distance for outcome in outcomes])
    is_right = np.array([outcome.is_right for outcome in outcomes])
    order = np.argsort(distances, kind="stable")
    own = [outcome.own for outcome in outcomes if len(outcome.own)]
    if not own:
        raise InvalidData("no person of the gallery returned in any trial; raise evaluation.calibration.trials")
    return Returns(distances[order], is_right[order], len(own), np.concatenate(own))


@dataclass(frozen=True, slots=True)
class _Outcome:
    distance: float
    is_right: bool
    own: FloatArray
    """Distance of each embedding to the person's own gallery; empty for an impostor."""


def _simulate_return(
    embeddings: FloatArray,
    people: list[NDArray[np.intp]],
    reid: ReIDConfig,
    config: CalibrationConfig,
    rng: np.random.Generator,
) -> _Outcome:
    """Simulate one return."""
    chosen = rng.choice(len(people), config.gallery_identities + 1, replace=False)
    is_impostor = bool(rng.random() < config.impostor_share)
    person = int(chosen[-1] if is_impostor else chosen[0])
    returned = _later(people[person], reid.decision.num_embeddings)
    distances = []
    own = np.empty(0, np.float32)
    for known in chosen[:-1].tolist():
        earlier = people[known][: len(people[known]) - len(_later(people[known], reid.decision.num_embeddings))]
        gallery = rng.permutation(earlier)[: reid.gallery.size]
        nearest_of_each = (1 - embeddings[returned] @ embeddings[gallery].T).min(axis=1)
        distances.append(float(nearest_of_each.mean()))
        if known == person:
            own = nearest_of_each
    nearest = int(np.argmin(distances))
    return _Outcome(distances[nearest], not is_impostor and nearest == 0, own)


def _later(crops: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return the last `count` crops of a person, at most half of all."""
    return crops[len(crops) - min(count, len(crops) // 2) :]

"""How well embeddings tell people apart: as a decision at one distance, and as a ranking."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from motserve.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Measured on all pairs of crops; shares are in [0, 1], distances are cosine distances.

    Attributes:
        true_accept: Share of pairs of one person below the distance.
        false_accept: Share of pairs of two people below the distance.
        same_median: Median distance of pairs of one person.
        same_p90: Distance below which nine of ten pairs of one person lie.
        other_p01: Distance below which one in a hundred pairs of two people lies.
        other_median: Median distance of pairs of two people.
        rank1: Share of crops whose nearest other crop shows the same person.
        mean_ap: Mean average precision of the ranking of all other crops.
    """

    true_accept: float
    false_accept: float
    same_median: float
    same_p90: float
    other_p01: float
    other_median: float
    rank1: float
    mean_ap: float

    def as_dict(self) -> dict[str, float]:
        """Return the measures by name, rounded to four places."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure_pairs(embeddings: FloatArray, labels: IntArray, distance: float) -> Retrieval:
    """Compare every crop with every other.

    Args:
        embeddings: `(n, d)` float32 of unit length.
        labels: `(n,)` int64, whom each shows.
        distance: Cosine distance below which two crops count as one person.
    """
    distances = 1 - embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    upper = np.triu(np.ones(same.shape, bool), 1)
    ours, others = distances[same & upper], distances[~same & upper]
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :-1]
    hits = np.take_along_axis(same, order, axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)
    return Retrieval(
        true_accept=float((ours <= distance).mean()),
        false_accept=float((others <= distance).mean()),
        same_median=float(np.median(ours)),
        same_p90=float(np.quantile(ours, 0.9)),
        other_p01=float(np.quantile(others, 0.01)),
        other_median=float(np.median(others)),
        rank1=float(hits[:, 0].mean()),
        mean_ap=float(average.mean()),
    )

"""CLEAR, Identity and HOTA metrics of tracks, computed by TrackEval in memory on prepared sequences.

TrackEval is the evaluation kit of the MOTChallenge. Only its metrics are used: motserve itself finds, reads and checks
the files and applies the rules of a benchmark, so no folder layout, sequence list or flag of TrackEval is needed.
References: Bernardin and Stiefelhagen 2008 (CLEAR), Ristani et al. 2016 (Identity), Luiten et al. 2021 (HOTA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final

import numpy as np

from motserve.lab.evaluation.benchmarks import Rules
from motserve.lab.evaluation.preparation import PreparedSequence, prepare
from motserve.models.extras import required_extra
from motserve.results import MotTable

_LEAST_IOU = 0.5  # of a correct match in CLEAR and Identity, fixed by the benchmarks


@dataclass(frozen=True, slots=True)
class MotScores:
    """Scores of one sequence or of several together. Ratios are fractions; only `mota` can be below 0.

    Attributes:
        hota: Higher order tracking accuracy, mean over IoU thresholds from 0.05 to 0.95, like the next three.
        deta: Detection accuracy.
        assa: Association accuracy.
        loca: Localisation accuracy.
        mota: Multi-object tracking accuracy.
        motp: Mean IoU of correct matches.
        idf1: Identity F1.
        idp: Identity precision.
        idr: Identity recall.
        id_switches: Changes of a person's identity.
        fragmentations: Interruptions of a person's track.
        false_positives: Boxes without a person.
        misses: People without a box.
        mostly_tracked: People tracked in more than 80 % of their frames.
        mostly_lost: People tracked in less than 20 % of their frames.
    """

    hota: float
    deta: float
    assa: float
    loca: float
    mota: float
    motp: float
    idf1: float
    idp: float
    idr: float
    id_switches: int
    fragmentations: int
    false_positives: int
    misses: int
    mostly_tracked: int
    mostly_lost: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the scores by the names that the benchmarks print."""
        return {name: getattr(self, field) for name, field in zip(SCORE_NAMES, _FIELDS, strict=True)}


SCORE_NAMES: Final = (
    "HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR", "IDSW", "Frag", "FP", "FN", "MT", "ML",
)  # fmt: skip
"""Names of the scores in the order of the fields of `MotScores`."""

RATIO_NAMES: Final = SCORE_NAMES[:9]
"""Names of the scores that are fractions."""

COUNT_NAMES: Final = SCORE_NAMES[9:]
"""Names of the scores that are whole numbers."""

_FIELDS = tuple(field.name for field in fields(MotScores))


@dataclass(frozen=True, slots=True)
class Scored:
    """Results of the metrics for one sequence or for several together.

    Attributes:
        raw: Result of each family of metrics by name; required to combine sequences.
    """

    raw: Mapping[str, Mapping[str, Any]]

    @property
    def scores(self) -> MotScores:
        """The reported scores."""
        hota, clear, identity = (self.raw[name] for name in ("HOTA", "CLEAR", "Identity"))
        return MotScores(
            hota=float(np.mean(hota["HOTA"])),
            deta=float(np.mean(hota["DetA"])),
            assa=float(np.mean(hota["AssA"])),
            loca=float(np.mean(hota["LocA"])),
            mota=float(clear["MOTA"]),
            motp=float(clear["MOTP"]),
            idf1=float(identity["IDF1"]),
            idp=float(identity["IDP"]),
            idr=float(identity["IDR"]),
            id_switches=int(clear["IDSW"]),
            fragmentations=int(clear["Frag"]),
            false_positives=int(clear["CLR_FP"]),
            misses=int(clear["CLR_FN"]),
            mostly_tracked=int(clear["MT"]),
            mostly_lost=int(clear["ML"]),
        )

    @property
    def curves(self) -> dict[str, list[float]]:
        """HOTA, DetA, AssA and LocA at each IoU threshold, `alpha`."""
        hota = self.raw["HOTA"]
        alphas = np.round(_engines()["HOTA"].array_labels, 2).tolist()
        return {"alpha": alphas, **{n: np.asarray(hota[n], float).tolist() for n in ("HOTA", "DetA", "AssA", "LocA")}}


def score_sequence(truth: MotTable, tracks: MotTable, rules: Rules, frames: int | None = None) -> Scored:
    """Score the tracks of one sequence.

    Args:
        truth: Ground truth.
        tracks: Tracks.
        rules: Rules of the benchmark.
        frames: Length of the sequence; None if it ends with the last row.

    Returns:
        The scores, equal to those of TrackEval for the same files.

    Raises:
        InvalidData: A table is not valid; see `prepare`.
    """
    return score_prepared(prepare(truth, tracks, rules, frames))


def score_prepared(sequence: PreparedSequence) -> Scored:
    """Score a prepared sequence."""
    data = {
        "gt_ids": sequence.truth_ids,
        "tracker_ids": sequence.track_ids,
        "similarity_scores": sequence.similarity,
        "num_gt_ids": sequence.people,
        "num_tracker_ids": sequence.tracks,
        "num_gt_dets": sum(map(len, sequence.truth_ids)),
        "num_tracker_dets": sum(map(len, sequence.track_ids)),
        "num_timesteps": len(sequence.truth_ids),
    }
    return Scored({name: engine.eval_sequence(data) for name, engine in _engines().items()})


def combine(sequences: Mapping[str, Scored]) -> Scored:
    """Score several sequences together, by the sum of their matches.

    Args:
        sequences: The sequences by name, at least one.
    """
    return Scored(
        {
            name: engine.combine_sequences({sequence: scored.raw[name] for sequence, scored in sequences.items()})
            for name, engine in _engines().items()
        }
    )


@cache
def _engines() -> Mapping[str, Any]:
    """TrackEval's metrics; imported at first use, because the service does not need them."""
    with required_extra("lab", "the score of tracks"):
        from trackeval import metrics

    quiet = {"PRINT_CONFIG": False, "THRESHOLD": _LEAST_IOU}
    return {"HOTA": metrics.HOTA(), "CLEAR": metrics.CLEAR(quiet), "Identity": metrics.Identity(quiet)}

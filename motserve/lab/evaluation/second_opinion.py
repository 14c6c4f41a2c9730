"""Scores by motmetrics, which shares no code with TrackEval, to verify the scores of the latter.

motmetrics has no HOTA, its MOTP is a distance, and its own IoU distance fails on NumPy 2, so it gets distances. Its
fragmentations and its mostly tracked and lost people are defined differently at the limits, so they are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from motserve.lab.evaluation.preparation import PreparedSequence
from motserve.models.extras import required_extra

COMPARED: Final = ("MOTA", "MOTP", "IDF1", "IDP", "IDR", "IDSW", "FP", "FN")
"""Scores with the same definition in both packages."""

_LEAST_IOU = 0.5
_NAMES: Final[Mapping[str, str]] = {
    "MOTA": "mota",
    "MOTP": "motp",
    "IDF1": "idf1",
    "IDP": "idp",
    "IDR": "idr",
    "IDSW": "num_switches",
    "FP": "num_false_positives",
    "FN": "num_misses",
}


def second_opinion(sequence: PreparedSequence) -> dict[str, float | int]:
    """Score a sequence with motmetrics.

    The two packages resolve ambiguous matches differently, with equal overlaps or after a person was missed for some
    frames, so counts may differ slightly in crowds.

    Args:
        sequence: The prepared sequence.

    Returns:
        The scores of `COMPARED`; ratios are fractions, not finite if the ground truth has no people.
    """
    with required_extra("lab", "the comparison of scores"):
        import motmetrics

    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for people, tracks, overlap in zip(sequence.truth_ids, sequence.track_ids, sequence.similarity, strict=True):
        accumulator.update(people, tracks, np.where(overlap >= _LEAST_IOU, 1 - overlap, np.nan))
    columns = list(_NAMES.values())
    summary: Any = motmetrics.metrics.create().compute(accumulator, metrics=columns, name="sequence").iloc[0]
    scores: dict[str, float | int] = {
        name: int(summary[column]) if column.startswith("num_") else float(summary[column])
        for name, column in _NAMES.items()
    }
    return {**scores, "MOTP": 1 - scores["MOTP"]}

"""Turns the scores of a file of detections, which every detector gives on a scale of its own, into confidences."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from motserve.config.evaluation import EvaluationConfig, ScoreScale
from motserve.errors import InvalidData
from motserve.results import MotTable
from motserve.types import FloatArray

READINGS: Final = {"rank": "replaced by their rank", "logistic": "read as log-odds"}
"""What is done to scores that are no confidences, by the name of the scale."""


def choose_scale(scores: FloatArray, config: EvaluationConfig) -> ScoreScale:
    """Return how the scores of a file are read: as configured, or as they look.

    Confidences lie in [0, 1]. Log-odds, such as those of the deformable part model in MOT17, lie around zero. Others,
    such as those of MOT15, which reach beyond 100, tell only which detection is surer.

    Args:
        scores: `(n,)` float32.
        config: `detection_scores` and `largest_log_odds` are used.
    """
    if config.detection_scores != "auto":
        return config.detection_scores
    if ((scores >= 0) & (scores <= 1)).all():
        return "as-is"
    return "logistic" if np.abs(scores).max() <= config.largest_log_odds else "rank"


def to_confidences(table: MotTable, scale: ScoreScale) -> FloatArray:
    """Return the confidence of each detection of a file.

    Args:
        table: The detections.
        scale: `as-is` for scores that are confidences; `logistic` for 1 / (1 + exp(-score)); `rank` for the share of
            the file's scores that are not above it, ties in the middle of their ranks.

    Returns:
        `(n,)` float32 in [0, 1].

    Raises:
        InvalidData: A score is to be taken as it is and not in [0, 1]; the message names file and line.
    """
    scores = table.scores
    if scale == "logistic":
        return np.asarray(expit(scores.astype(np.float64)), np.float32)
    if scale == "rank":
        return np.asarray(rankdata(scores) / max(len(scores), 1), np.float32)
    wrong = np.flatnonzero((scores < 0) | (scores > 1))
    if len(wrong):
        row = wrong[np.argmin(table.lines[wrong])]
        raise InvalidData(
            f"{table.name}, line {table.lines[row]}: score {scores[row]:g} is no confidence in [0, 1]; --scores rank "
            "and --scores logistic make confidences of such scores"
        )
    return scores

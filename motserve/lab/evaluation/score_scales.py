"""Converts the scores of a detection file, whose scale depends on the detector, to confidences."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from motserve.config.evaluation import EvaluationConfig, ScoreScale
from motserve.results import MotTable, require_confidences
from motserve.types import FloatArray

READINGS: Final = {"rank": "replaced by their rank", "logistic": "read as log-odds"}
"""Conversion of scores that are not confidences, by scale, as text for messages."""


def choose_scale(scores: FloatArray, config: EvaluationConfig) -> ScoreScale:
    """Return the scale of the scores of a file, as configured or by their range.

    Confidences are in [0, 1]. Log-odds, such as those of the deformable part model in MOT17, are around zero. Other
    scores, such as those of MOT15, which exceed 100, are used only for their order.

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
        scale: `as-is` for scores that are confidences; `logistic` for 1 / (1 + exp(-score)); `rank` for the rank of the
            score as a fraction of the file's detections, with the mean rank for ties.

    Returns:
        `(n,)` float32 in [0, 1].

    Raises:
        InvalidData: With `as-is`, a score is not in [0, 1]; the message names file and line.
    """
    scores = table.scores
    if scale == "logistic":
        return np.asarray(expit(scores.astype(np.float64)), np.float32)
    if scale == "rank":
        return np.asarray(rankdata(scores) / max(len(scores), 1), np.float32)
    require_confidences(table, "--scores rank and --scores logistic convert such scores")
    return scores

"""Accuracy of tracks, detections and embeddings against ground truth."""

from motserve.lab.evaluation.benchmarks import BENCHMARKS, Benchmark, Rules, rules_for
from motserve.lab.evaluation.mot import (
    COUNT_NAMES,
    RATIO_NAMES,
    SCORE_NAMES,
    MotScores,
    Scored,
    combine,
    score_sequence,
)

__all__ = [
    "BENCHMARKS",
    "COUNT_NAMES",
    "RATIO_NAMES",
    "SCORE_NAMES",
    "Benchmark",
    "MotScores",
    "Rules",
    "Scored",
    "combine",
    "rules_for",
    "score_sequence",
]

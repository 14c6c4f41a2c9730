"""How good tracks are, measured against ground truth."""

from motserve.evaluation.mot import MotScores, score_tracks

__all__ = ["MotScores", "score_tracks"]

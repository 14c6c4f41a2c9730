from __future__ import annotations

import math

import numpy as np
import pytest

from motserve.config import ConfidenceScalingConfig
from motserve.tracking.confidence_scaling import ConfidenceScaling


def test_the_level_is_the_mean_weighted_by_third_powers_of_which_the_old_ones_fade() -> None:
    scaling = ConfidenceScaling(ConfidenceScalingConfig(reference=0.5, memory_s=2.0, prior=1.0))
    assert scaling.scale == pytest.approx(0.8 / 0.5)
    scaling.observe(np.array([0.9, 0.6], np.float32), 2.0)
    level = np.average([0.8, 0.9, 0.6], weights=[0.8**3 / math.e, 0.9**3, 0.6**3])
    assert scaling.scale == pytest.approx(level / 0.5, rel=1e-6)


def test_more_prior_weight_keeps_the_level_longer() -> None:
    levels = []
    for prior in (0.1, 10, 1000):
        scaling = ConfidenceScaling(ConfidenceScalingConfig(reference=1.0, prior=prior))
        scaling.observe(np.array([0.6, 0.6], np.float32), 0.0)
        levels.append(scaling.scale)
    assert 0.6 < levels[0] < levels[1] < levels[2] < 0.8


def test_the_level_is_never_below_the_least_one() -> None:
    scaling = ConfidenceScaling(ConfidenceScalingConfig(reference=0.8, min_level=0.4))
    scaling.observe(np.array([0.1] * 99, np.float32), 1e3)
    assert scaling.scale == 0.5
    scaling.observe(np.empty(0, np.float32), 1e9)  # everything is forgotten
    assert scaling.scale == 0.5

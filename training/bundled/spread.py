"""Choosing some of many, evenly."""

from __future__ import annotations

import numpy as np


def spread(count: int, most: int) -> list[int]:
    """Return the indices of so many of `count` things at the most, from the first to the last, evenly spaced.

    >>> spread(9, 3), spread(2, 3), spread(0, 3)
    ([0, 4, 8], [0, 1], [])
    """
    indices: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return indices

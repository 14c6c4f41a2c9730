"""Evenly spaced selection."""

from __future__ import annotations

import numpy as np


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices of `count` items, evenly spaced from the first to the last.

    >>> spread(9, 3), spread(2, 3), spread(0, 3)
    ([0, 4, 8], [0, 1], [])
    """
    indices: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return indices

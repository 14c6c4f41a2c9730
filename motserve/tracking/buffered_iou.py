"""A last association of what is left over, with enlarged boxes.

Reference: Yang et al., "Hard to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by
Buffering the Matching Space", WACV 2023.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motserve.config import RecoveryConfig
from motserve.tracking.association import assign
from motserve.types import BoolArray, FloatArray, IntArray


def recover(
    tracks: FloatArray,
    since: NDArray[np.float64],
    detections: FloatArray,
    config: RecoveryConfig,
    allowed: BoolArray | None = None,
) -> tuple[IntArray, IntArray]:
    """Match what is left over by boxes that are enlarged, the more the longer a track was not seen.

    Args:
        tracks: `(4, n)` float32, predicted boxes.
        since: `(n,)` float64, seconds since each was seen.
        detections: `(4, m)` float32.
        config: Sizes and limits.
        allowed: `(n, m)`, which pairs may be matched; None for all.

    Returns:
        Column of the track and column of the detection of each match, `(j,)` int64 each.
    """
    # Few are left over: all pairs are tested at once, and nearly none is close enough to be measured.
    share = np.minimum(config.expansion, config.speed * since)
    growth = 1 + 2 * share
    size, other = tracks[2:] - tracks[:2], detections[2:] - detections[:2]
    reach = (size[:, :, None] + other[:, None]) * growth[:, None]
    reach -= np.abs((tracks[:2] + tracks[2:])[:, :, None] - (detections[:2] + detections[2:])[:, None])
    tall, other_tall = size[1][:, None], other[1]
    close = (other_tall < config.height_ratio * tall) & (tall < config.height_ratio * other_tall)
    close &= (reach > 0).all(axis=0)
    if allowed is not None:
        close &= allowed
    rows, columns = close.nonzero()
    if not rows.size:
        return rows, columns
    grown = growth.take(rows)
    size, other = size.take(rows, axis=1) * grown, other.take(columns, axis=1) * grown
    sides = np.minimum(reach[:, rows, columns] / 2, np.minimum(size, other))
    overlap = sides[0] * sides[1]
    cost = 1 - overlap / (size[0] * size[1] + other[0] * other[1] - overlap)
    return assign(rows, columns, cost, config.match_distance)

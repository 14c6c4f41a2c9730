"""A last association of unmatched tracks and detections by buffered IoU (BIoU): the IoU of enlarged boxes.

Reference: Yang et al., "Hard to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by
Buffering the Matching Space", WACV 2023.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motserve.config import BufferedIouConfig
from motserve.tracking.association import assign
from motserve.types import BoolArray, FloatArray, IntArray


def match_buffered(
    tracks: FloatArray,
    since: NDArray[np.float64],
    detections: FloatArray,
    config: BufferedIouConfig,
    allowed: BoolArray | None = None,
) -> tuple[IntArray, IntArray]:
    """Match unmatched tracks and detections by enlarged boxes; boxes grow with the time since the last match.

    Args:
        tracks: `(4, n)` float32, predicted boxes.
        since: `(n,)` float64, seconds since the last match of each track.
        detections: `(4, m)` float32.
        config: Enlargement and limits.
        allowed: `(n, m)`, which pairs may be matched; None for all.

    Returns:
        Column of the track and column of the detection of each match, `(j,)` int64 each.
    """
    # Few are unmatched, so all pairs are tested at once; nearly none is close enough for its IoU to be computed.
    share = np.minimum(config.expansion, config.speed * since)
    growth = 1 + 2 * share
    size, other_size = tracks[2:] - tracks[:2], detections[2:] - detections[:2]
    extent = (size[:, :, None] + other_size[:, None]) * growth[:, None]
    extent -= np.abs((tracks[:2] + tracks[2:])[:, :, None] - (detections[:2] + detections[2:])[:, None])
    height, other_height = size[1][:, None], other_size[1]
    is_close = (other_height <= config.height_ratio * height) & (height <= config.height_ratio * other_height)
    is_close &= (extent > 0).all(axis=0)
    if allowed is not None:
        is_close &= allowed
    rows, columns = is_close.nonzero()
    if not rows.size:
        return rows, columns
    grown = growth.take(rows)
    size, other_size = size.take(rows, axis=1) * grown, other_size.take(columns, axis=1) * grown
    sides = np.minimum(extent[:, rows, columns] / 2, np.minimum(size, other_size))
    overlap = sides[0] * sides[1]
    cost = 1 - overlap / (size[0] * size[1] + other_size[0] * other_size[1] - overlap)
    return assign(rows, columns, cost, config.match_distance)

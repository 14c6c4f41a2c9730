"""The detections of one frame, validated, sorted and converted for the trackers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from motserve.base import NO_CUES
from motserve.tracking.appearance import embeddings_of
from motserve.types import BoolArray, Cues, Detections, FloatArray, IntArray

# Beyond this float32 cannot distinguish neighbouring pixels, and areas lose their meaning.
_MAX_COORDINATE = float(2**24)
# A box thinner than this has no area in practice, and its aspect ratio may overflow.
MIN_SIDE = 1e-3


@dataclass(frozen=True, slots=True)
class Observations:
    """Detections above the lower threshold, best score first, so that their order in the input does not matter.

    Attributes:
        rows: `(m,)` int64, row of each in the frame's `Detections`.
        boxes: `(4, m)` float32, contiguous rows left, top, right, bottom, in pixels.
        centre: `(2, m)` float32, x and y in pixels.
        size: `(2, m)` float32, width and height in pixels.
        scores: `(m,)` float32, falling.
        classes: `(m,)` int64.
        embeddings: `(d, m)` float32, of unit length; zero where there is none.
        has_embedding: `(m,)` bool.
    """

    rows: IntArray
    boxes: FloatArray
    centre: FloatArray
    size: FloatArray
    scores: FloatArray
    classes: IntArray
    embeddings: FloatArray
    has_embedding: BoolArray

    def __len__(self) -> int:
        return len(self.rows)

    def from_score(self, least: float) -> int:
        """Return how many observations have at least this score; they are the first ones."""
        return int(np.count_nonzero(self.scores >= least))


def observe(detections: Detections, low: float, cues: Cues = NO_CUES) -> Observations:
    """Validate detections and convert them to observations.

    Args:
        detections: The detector's output. Rows with a score of `low` or less are ignored, with any box.
        low: Scores must be above this one.
        cues: Embeddings of some of the detections.

    Returns:
        The observations.

    Raises:
        ValueError: A score is not a number in [0, 1], or the box of a row above `low` is not finite, reaches beyond
            +-2^24 pixels, or has no area (a side below 0.001 pixels, or right and left or top and bottom swapped).
    """
    scores = detections.scores
    in_range = (scores >= 0) & (scores <= 1)
    if np.count_nonzero(in_range) < in_range.size:
        row = int(np.argmin(in_range))
        raise ValueError(f"detection {row} has score {scores[row]:.6g}; scores must be numbers in [0, 1]")
    rows = _best_first(detections, low)
    scores = scores.take(rows)
    corners = np.ascontiguousarray(detections.boxes.take(rows, axis=0).T)
    size = corners[2:] - corners[:2]
    ok = np.abs(corners) <= _MAX_COORDINATE
    ok[2:] &= size >= MIN_SIDE
    if np.count_nonzero(ok) < ok.size:
        raise ValueError(_describe_bad_box(corners, rows, int(ok.all(axis=0).argmin())))

    # Centre, then corner, then centre: the reference's sequence of formats, in its precision.
    half = size / 2
    low = (corners[:2] + corners[2:]) / 2 - half
    embeddings, has_embedding = embeddings_of(rows, cues)
    return Observations(
        rows=rows,
        boxes=np.concatenate([low, low + size]),
        centre=low + half,
        size=size,
        scores=scores,
        classes=detections.classes.take(rows),
        embeddings=embeddings,
        has_embedding=has_embedding,
    )


def _best_first(detections: Detections, low: float) -> IntArray:
    """Return the rows above `low` by falling score; among equal scores the boxes and classes decide."""
    rows: IntArray = (detections.scores > low).nonzero()[0]
    scores = detections.scores.take(rows)
    if np.count_nonzero(scores[1:] < scores[:-1]) + 1 >= rows.size:
        return rows
    order = np.argsort(-scores)
    falling = scores.take(order)
    if (falling[1:] == falling[:-1]).any():
        box = detections.boxes.take(rows, axis=0).T
        order = np.lexsort((detections.classes.take(rows), box[3], box[2], box[1], box[0], -scores))
    return rows.take(order)


def _describe_bad_box(corners: FloatArray, rows: IntArray, bad: int) -> str:
    box = corners[:, bad]
    if not np.isfinite(box).all():
        reason = "is not finite"
    elif (np.abs(box) > _MAX_COORDINATE).any():
        reason = f"reaches beyond {_MAX_COORDINATE:.0f} pixels"
    else:
        reason = "has no area; right must be above left and bottom above top"
    return f"detection {int(rows[bad])} has box {box.tolist()}, which {reason}"

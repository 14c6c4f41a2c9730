"""Appearance of tracks: embeddings of observations, and their running means."""

from __future__ import annotations

import numpy as np

from motserve.types import BoolArray, Cues, FloatArray, IntArray

_MIN_LENGTH = np.float32(1e-12)  # of a mean of embeddings that cancel each other


def embeddings_of(detection_rows: IntArray, cues: Cues) -> tuple[FloatArray, BoolArray]:
    """Return the embeddings of observations.

    Args:
        detection_rows: `(m,)` int64, row of each observation in the frame's detections.
        cues: Embeddings of some of the frame's detections.

    Returns:
        `(d, m)` float32, zero for an observation without an embedding, and `(m,)` bool, True for one with an
        embedding.
    """
    embeddings = np.zeros((cues.embeddings.shape[1], len(detection_rows)), np.float32)
    if not len(cues.rows):
        return embeddings, np.zeros(len(detection_rows), np.bool_)
    order = np.argsort(cues.rows)
    rows = cues.rows.take(order)
    place = np.searchsorted(rows, detection_rows)
    known = rows.take(place, mode="clip") == detection_rows
    embeddings[:, known] = cues.embeddings[order.take(place[known])].T
    return embeddings, known


def running_mean(old: FloatArray, new: FloatArray, smoothing: float) -> FloatArray:
    """Update running means with new embeddings.

    Args:
        old: `(d, k)` float32, of unit length; NaN where there is none yet.
        new: `(d, k)` float32, of unit length.
        smoothing: Weight of the old mean, in [0, 1]; a higher one follows changes of appearance more slowly.

    Returns:
        `(d, k)` float32, of unit length.
    """
    share = np.float32(smoothing)
    mean = np.where(np.isnan(old), new, share * old + (1 - share) * new)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=0), _MIN_LENGTH), np.float32)

"""What tracks look like: embeddings of observations, and their running means."""

from __future__ import annotations

import numpy as np

from motserve.types import BoolArray, Cues, FloatArray, IntArray

_LEAST_LENGTH = np.float32(1e-12)  # of a mean of embeddings that cancel each other


def embeddings_of(wanted: IntArray, cues: Cues) -> tuple[FloatArray, BoolArray]:
    """Return the embeddings of observations.

    Args:
        wanted: `(m,)` int64, row of each in the frame's detections.
        cues: Embeddings of some of the frame's detections.

    Returns:
        `(d, m)` float32, zero where there is none, and `(m,)` bool, which have one.
    """
    looks = np.zeros((cues.embeddings.shape[1], len(wanted)), np.float32)
    if not len(cues.rows):
        return looks, np.zeros(len(wanted), np.bool_)
    order = np.argsort(cues.rows, kind="stable")
    rows = cues.rows.take(order)
    place = np.searchsorted(rows, wanted)
    known = rows.take(place, mode="clip") == wanted
    looks[:, known] = cues.embeddings[order.take(place[known])].T
    return looks, known


def running_mean(old: FloatArray, new: FloatArray, smoothing: float) -> FloatArray:
    """Take new embeddings into running means.

    Args:
        old: `(d, k)` float32, of unit length; NaN where there is none yet.
        new: `(d, k)` float32, of unit length.
        smoothing: Share of the old.

    Returns:
        `(d, k)` float32, of unit length.
    """
    share = np.float32(smoothing)
    mean = np.where(np.isnan(old), new, share * old + (1 - share) * new)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=0), _LEAST_LENGTH), np.float32)

"""What tracks look like: embeddings of observations, and their running means."""

from __future__ import annotations

import numpy as np

from motserve.tracking.observations import Observations
from motserve.types import BoolArray, Cues, FloatArray


def looks_of(seen: Observations, cues: Cues) -> tuple[FloatArray, BoolArray]:
    """Return the embeddings of observations.

    Args:
        seen: The frame's observations.
        cues: Embeddings of some of the frame's detections.

    Returns:
        `(d, m)` float32, zero where there is none, and `(m,)` bool, which have one.
    """
    place = np.searchsorted(cues.rows, seen.rows)
    known = place < len(cues.rows)
    if len(cues.rows):
        known &= cues.rows.take(place, mode="clip") == seen.rows
    looks = np.zeros((cues.embeddings.shape[1], len(seen)), np.float32)
    looks[:, known] = cues.embeddings[place[known]].T
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
    return np.asarray(mean / np.linalg.norm(mean, axis=0), np.float32)

"""Normalisation at both ends of an embedder: input pixels and output embeddings."""

from __future__ import annotations

import numpy as np

from motserve.types import FloatArray

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
"""Mean of ImageNet's RGB values in [0, 1]; networks pretrained on ImageNet expect it."""

IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
"""Standard deviation of ImageNet's RGB values in [0, 1]."""

_TINY = 1e-12


def unit_length(rows: FloatArray) -> FloatArray:
    """Scale each row of `(n, d)` to length one; a row of zeros stays zero and has distance 1 to all others.

    >>> unit_length(np.array([[0, 4], [0, 0]], np.float32)).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    scaled: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return scaled

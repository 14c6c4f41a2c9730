"""Writes labels and the description of a data set as Ultralytics reads them."""

from __future__ import annotations

import numpy as np
import yaml
from numpy.typing import NDArray

_LEAST_PIXELS = 1.0


def clip_boxes(boxes: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Clip boxes at the border of the picture; drop those narrower or lower than one pixel after that.

    Ultralytics skips a whole picture if one coordinate lies outside, and its predictions end at the border.

    Args:
        boxes: `(n, 4)` float64, left, top, width and height in pixels, origin 0; may reach beyond the picture.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.

    Returns:
        `(m, 4)` float64, centre x, centre y, width and height as shares of the picture, in [0, 1]; m ≤ n.
    """
    size = np.array([width, height], np.float64)
    low, high = np.clip(boxes[:, :2], 0, size), np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    keep_mask = (high - low >= _LEAST_PIXELS).all(1)
    low, high = low[keep_mask] / size, high[keep_mask] / size
    return np.hstack([(low + high) / 2, high - low])


def label_text(labels: NDArray[np.float64]) -> bytes:
    """Write labels of class 0 as text: `0 cx cy w h`, one line per box; empty without boxes."""
    return "".join(f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h in labels.tolist()).encode()


def data_yaml(splits: tuple[str, ...]) -> bytes:
    """Describe a data set of people to Ultralytics; without a `path` it may be moved.

    Args:
        splits: `train`, `val` or both.
    """
    tree = {**{split: f"images/{split}" for split in splits}, "names": {0: "person"}}
    return yaml.safe_dump(tree, sort_keys=False).encode()

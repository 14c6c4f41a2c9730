"""What all detectors share around their networks: classes by name, pictures by size, tidy boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.errors import InvalidConfig
from motserve.types import Detections, Image
from motserve.weights import Weights


def choose_classes(names: Mapping[int, str], wanted: Sequence[str], weights: Weights) -> dict[int, str]:
    """Return the classes that are asked for.

    Args:
        names: Name of each class index that the weights know.
        wanted: Class names; `all` stands for all of them.
        weights: Where the names come from, for the message.

    Returns:
        Name of each class index that is wanted.

    Raises:
        InvalidConfig: A name is not one of the weights' classes.
    """
    if "all" in wanted:
        return dict(names)
    unknown = set(wanted) - set(names.values())
    if unknown:
        raise InvalidConfig(
            f"detector.classes: {', '.join(sorted(unknown))} not among the classes of {weights.name}: "
            f"{', '.join(names.values())}"
        )
    return {index: name for index, name in names.items() if name in wanted}


def group_by_shape(images: Sequence[Image]) -> list[list[int]]:
    """Return the rows of the pictures of each size.

    Only pictures of one size go through a network together: mixing sizes would pad them to a common one, and the
    answer for a picture would depend on its neighbours.

    >>> import numpy as np
    >>> wide, high = np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)
    >>> group_by_shape([wide, high, wide])
    [[0, 2], [1]]
    """
    by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        by_shape[image.shape].append(i)
    return list(by_shape.values())


def tidy(
    boxes: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    classes: NDArray[np.number[Any]],
    shape: tuple[int, ...],
    wanted: Collection[int],
    limit: int,
) -> Detections:
    """Return what a network found as detections: wanted classes, inside the picture, best score first.

    What clipping at the border leaves thinner than a pixel shows nobody and is dropped.

    Args:
        boxes: `(n, 4)`, xyxy in pixels of the picture.
        scores: `(n,)`, confidence in [0, 1].
        classes: `(n,)`, class index.
        shape: Height, width and channels of the picture.
        wanted: Class indices to keep.
        limit: Most detections kept.
    """
    height, width = shape[:2]
    clipped = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    keep = (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1) & np.isin(classes, list(wanted))
    order = order[keep[order]][:limit]
    return Detections(clipped[order], scores[order].astype(np.float32), classes[order].astype(np.int64))

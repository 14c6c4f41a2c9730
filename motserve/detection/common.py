"""What all detectors share around their networks: classes by name, pictures by size, tidy boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from motserve.errors import InvalidConfig
from motserve.models.weights import Weights
from motserve.types import Detections, Image

# of what a message about a class says
_MOST_NAMED: Final = 12
_NEAR: Final = 5
_LEAST_LIKENESS: Final = 0.6
_MOST_DIGITS: Final = 9
_MOST_CHARACTERS: Final = 80


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
    for name in wanted:
        if name not in names.values():
            raise InvalidConfig(
                f"detector.classes: {name[:_MOST_CHARACTERS]!r} is no class of {weights.name}; {_hint(name, names)}"
            )
    return {index: name for index, name in names.items() if name in wanted}


def _hint(wrong: str, names: Mapping[int, str]) -> str:
    """Say which classes there are: all where they are few, else those whose names come near."""
    known = list(names.values())
    if len(known) <= _MOST_NAMED:
        return f"it has {', '.join(known)}"
    if wrong.isdecimal() and len(wrong) <= _MOST_DIGITS and int(wrong) in names:
        return f"classes are given by name, and number {int(wrong)} of its {len(known)} is {names[int(wrong)]!r}"
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(wrong[:_MOST_CHARACTERS].lower(), by_lower, _NEAR, _LEAST_LIKENESS)
    shown = [by_lower[name] for name in near] or known[:_NEAR]
    return f"{'near it' if near else 'some'} of its {len(known)} classes: {', '.join(shown)}"


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

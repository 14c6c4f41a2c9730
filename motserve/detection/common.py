"""Shared code of the detectors: selecting classes, grouping pictures by size, postprocessing boxes."""

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

# limits of an error message about a class
_MAX_LISTED: Final = 12
_MAX_SUGGESTIONS: Final = 5
_MIN_SIMILARITY: Final = 0.6
_MAX_DIGITS: Final = 9
_MAX_CHARACTERS: Final = 80


def choose_classes(names: Mapping[int, str], selected: Sequence[str], weights: Weights) -> dict[int, str]:
    """Return the selected classes.

    Args:
        names: Name of each class index of the weights.
        selected: Class names; `all` selects all of them.
        weights: The weights, for error messages.

    Returns:
        Name of each selected class index.

    Raises:
        InvalidConfig: A name is not one of the weights' classes.
    """
    if "all" in selected:
        return dict(names)
    for name in selected:
        if name not in names.values():
            raise InvalidConfig(
                f"detector.classes: {name[:_MAX_CHARACTERS]!r} is no class of {weights.name}; {_hint(name, names)}"
            )
    return {index: name for index, name in names.items() if name in selected}


def _hint(name: str, names: Mapping[int, str]) -> str:
    """Return a hint with the available classes: all where they are few, else those with similar names."""
    known = list(names.values())
    if len(known) <= _MAX_LISTED:
        return f"it has {', '.join(known)}"
    if name.isdecimal() and len(name) <= _MAX_DIGITS and int(name) in names:
        return f"classes are given by name, and number {int(name)} of its {len(known)} is {names[int(name)]!r}"
    by_lower = {name.lower(): name for name in known}
    similar = get_close_matches(name[:_MAX_CHARACTERS].lower(), by_lower, _MAX_SUGGESTIONS, _MIN_SIMILARITY)
    suggestions = [by_lower[name] for name in similar] or known[:_MAX_SUGGESTIONS]
    return f"{'similar ones among' if similar else 'some of'} its {len(known)} classes: {', '.join(suggestions)}"


def group_by_shape(images: Sequence[Image]) -> list[list[int]]:
    """Return the indices of the pictures of each size.

    Only pictures of one size are batched: other sizes would be padded to a common one, and the result for a picture
    would depend on the others in its batch.

    >>> import numpy as np
    >>> wide, high = np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)
    >>> group_by_shape([wide, high, wide])
    [[0, 2], [1]]
    """
    by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        by_shape[image.shape].append(i)
    return list(by_shape.values())


def postprocess(
    boxes: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    classes: NDArray[np.number[Any]],
    shape: tuple[int, ...],
    selected: Collection[int],
    limit: int,
) -> Detections:
    """Convert a network's output to detections: selected classes, clipped to the picture, best score first.

    Boxes that clipping leaves thinner than a pixel are dropped.

    Args:
        boxes: `(n, 4)`, xyxy in pixels of the picture.
        scores: `(n,)`, confidence in [0, 1].
        classes: `(n,)`, class index.
        shape: Height, width and channels of the picture.
        selected: Class indices to keep.
        limit: Most detections returned.
    """
    height, width = shape[:2]
    clipped = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    keep_mask = (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1) & np.isin(classes, list(selected))
    order = order[keep_mask[order]][:limit]
    return Detections(clipped[order], scores[order].astype(np.float32), classes[order].astype(np.int64))

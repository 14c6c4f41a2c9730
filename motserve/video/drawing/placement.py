"""Finds places for labels so that none covers another one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

Rectangle: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in whole pixels; right and bottom are outside."""

_MOST_STEPS: Final = 6
"""Farthest shift of a label from its box in label heights; farther away it would seem to belong to another box."""


def place_labels(
    boxes: Sequence[Rectangle],
    sizes: Sequence[tuple[int, int]],
    width: int,
    height: int,
    taken: Sequence[Rectangle] = (),
) -> list[Rectangle | None]:
    """Choose a place for the label of each box: above it, below it, inside it, beside it, or shifted.

    Each label takes the first of its places that is free. Earlier ones choose first, so that labels keep their places
    from frame to frame if the order stays the same. The time grows linearly with the number of labels.

    Args:
        boxes: The box of each label.
        sizes: Width and height of each label in pixels, at least 1.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        taken: Places that no label may cover.

    Returns:
        The place of each label, inside the picture and free of overlap with all others; None for a label that has no
        free place near its box, and for one whose box is outside the picture.

    >>> place_labels([(20, 40, 60, 90), (22, 40, 62, 90)], [(30, 10), (30, 10)], 200, 100)
    [(20, 30, 50, 40), (22, 90, 52, 100)]
    """
    if not boxes:
        return []
    grid = _Grid(max(w for w, _ in sizes), max(h for _, h in sizes))
    for rectangle in taken:
        grid.add(rectangle)
    places: list[Rectangle | None] = []
    for (left, top, right, bottom), (w, h) in zip(boxes, sizes, strict=True):
        place = None
        if w <= width and h <= height and left < width and top < height and right > 0 and bottom > 0:
            for x, y in _candidates((max(left, 0), max(top, 0), min(right, width), min(bottom, height)), w, h):
                x, y = min(max(x, 0), width - w), min(max(y, 0), height - h)
                if grid.is_free((x, y, x + w, y + h)):
                    place = (x, y, x + w, y + h)
                    grid.add(place)
                    break
        places.append(place)
    return places


def _candidates(box: Rectangle, w: int, h: int) -> Iterator[tuple[int, int]]:
    """Yield the top left corners of the places for a label, best first."""
    left, top, right, bottom = box
    yield left, top - h
    yield right - w, top - h
    yield left, bottom
    yield right - w, bottom
    yield left, bottom - h
    yield right - w, bottom - h
    yield left, top
    yield right, top
    yield left - w, top
    for step in range(1, _MOST_STEPS + 1):
        yield left, top - (step + 1) * h
        yield right - w, top - (step + 1) * h
        yield left, top + step * h
        yield right, top + step * h
        yield left - w, top + step * h
        yield left, bottom + step * h


class _Grid:
    """Rectangles by the cells that they touch; cells are as large as the largest label, so it touches four at most."""

    def __init__(self, cell_width: int, cell_height: int) -> None:
        self._size = cell_width, cell_height
        self._cells: defaultdict[tuple[int, int], list[Rectangle]] = defaultdict(list)

    def add(self, rectangle: Rectangle) -> None:
        for cell in self._touched(rectangle):
            self._cells[cell].append(rectangle)

    def is_free(self, rectangle: Rectangle) -> bool:
        left, top, right, bottom = rectangle
        for cell in self._touched(rectangle):
            for a, b, c, d in self._cells.get(cell, ()):
                if left < c and right > a and top < d and bottom > b:
                    return False
        return True

    def _touched(self, rectangle: Rectangle) -> Iterator[tuple[int, int]]:
        left, top, right, bottom = rectangle
        width, height = self._size
        for column in range(left // width, (right - 1) // width + 1):
            for row in range(top // height, (bottom - 1) // height + 1):
                yield column, row

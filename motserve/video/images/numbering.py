"""Reads frame numbers from the names of images: missing images leave a gap, the others keep their numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from statistics import median_low
from typing import Final

_NUMBERED: Final = re.compile(r"(.*?)([0-9]+)", re.DOTALL)
_MAX_NAMED: Final = 5  # missing numbers in a message
_SLOWEST_HZ: Final = 1.0
"""Numbers with larger steps between images are not frames but, for example, milliseconds."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Frame index of each image of a folder.

    Attributes:
        indices: Frame index of each image, from 0, increasing.
        first: Number in the name of frame 0.
        is_guess: Whether the names have numbers with gaps that do not seem to be frame numbers.
    """

    indices: Sequence[int]
    first: int
    is_guess: bool = False

    @property
    def missing(self) -> str:
        """The missing numbers up to the last, a few of them listed; empty if there are none.

        >>> Numbering([0, 1, 3, 6, 7], 1).missing
        '3, 5, 6'
        """
        count = self.indices[-1] + 1 - len(self.indices)
        gaps = (range(before + 1, after) for before, after in pairwise((-1, *self.indices)))
        shown = ", ".join(str(index + self.first) for index in islice(chain.from_iterable(gaps), _MAX_NAMED))
        return shown + (f" and {count - _MAX_NAMED} more" if count > _MAX_NAMED else "")


def picture_numbers(stems: Sequence[str]) -> list[int] | None:
    """Return the numbers in the names of images; None unless all are the same text and then digits, in rising order.

    Args:
        stems: Names of the images without their suffixes, in natural order.

    >>> picture_numbers(["frame_8", "frame_10"]), picture_numbers(["front_1", "rear_1"]), picture_numbers(["1", "01"])
    ([8, 10], None, None)
    """
    parts = [part for stem in stems if (part := _NUMBERED.fullmatch(stem))]
    if len(parts) < len(stems) or len({part[1] for part in parts}) != 1:
        return None
    numbers = [int(part[2]) for part in parts]
    return numbers if all(before < after for before, after in pairwise(numbers)) else None


def number_frames(stems: Sequence[str], is_sequence: bool, rate_hz: float, most: int) -> Numbering:
    """Return the frame index of each image.

    In a MOTChallenge sequence, numbers count from 1, or from 0 if an image has this number; elsewhere from the number
    of the first image.

    Images are counted instead if their names have no numbers, or numbers of something else: those that span `most`
    frames or more, such as dates, and in a plain folder those that put most images more than a second apart, such as
    milliseconds.

    Args:
        stems: Names of the images without their suffixes, in order.
        is_sequence: Whether they belong to a MOTChallenge sequence.
        rate_hz: Frame rate in Hz.
        most: Largest number of frames of a video.

    >>> number_frames(["000001", "000002", "000004"], True, 30, 1000).indices
    [0, 1, 3]
    >>> number_frames(["0", "40", "80"], False, 30, 1000).indices
    range(0, 3)
    """
    one_by_one = Numbering(range(len(stems)), 0)
    numbers = picture_numbers(stems)
    if numbers is None:
        return one_by_one
    first = min(1, numbers[0]) if is_sequence else numbers[0]
    step = median_low([after - before for before, after in pairwise(numbers)] or [1])
    if numbers[-1] - first >= most or (not is_sequence and step * _SLOWEST_HZ > rate_hz):
        return replace(one_by_one, is_guess=numbers[-1] - numbers[0] >= len(numbers))
    return Numbering([number - first for number in numbers], first)

"""Reads identity and camera from the file names of person re-identification data sets."""

from __future__ import annotations

import re
from typing import Final

JUNK: Final = -1
"""Identity of crops without a usable person; they are not ranked."""

DISTRACTOR: Final = 0
"""Identity of crops that match no query; they are ranked and never right."""

# identity and camera; Market-1501 has a sequence after the camera, DukeMTMC-reID has none
_NAME = re.compile(r"(-1|\d{1,9})_c(\d{1,9})(?:s\d+)?_.+")


def parse_reid_name(name: str) -> tuple[int, int] | None:
    """Return the identity and camera in a file name.

    Args:
        name: Name of the file, with or without its suffix.

    Returns:
        The identity (people from 1, `JUNK` or `DISTRACTOR`) and the camera; None if the name is of another form.

    >>> parse_reid_name("0002_c1s1_000451_03.jpg")
    (2, 1)
    >>> parse_reid_name("0005_c2_f0046985.jpg")
    (5, 2)
    >>> parse_reid_name("-1_c3s2_000001_01.jpg")
    (-1, 3)
    >>> parse_reid_name("me.jpg") is None
    True
    """
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None

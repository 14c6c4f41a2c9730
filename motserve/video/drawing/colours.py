"""Colours of identities, and the ink that is readable on them."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import Final, TypeAlias

Colour: TypeAlias = tuple[int, int, int]
"""Blue, green and red, each 0 to 255."""

BLACK: Final[Colour] = (0, 0, 0)
WHITE: Final[Colour] = (255, 255, 255)

# Successive hues a golden section apart differ clearly for any count. Identities that differ by 8, 13, 21 or 34 have
# similar hues; five alternating shades separate those.
_GOLDEN = 0.6180339887498949
_SHADES = ((0.85, 1.0), (0.5, 1.0), (0.95, 0.75), (0.35, 0.95), (0.7, 0.85))  # saturation, value


@lru_cache(maxsize=4096)
def colour_of(identity: int) -> Colour:
    """Return the colour of an identity, the same in every video; successive identities have clearly different hues.

    >>> colour_of(1) == colour_of(1), colour_of(1) == colour_of(2)
    (True, False)
    """
    saturation, value = _SHADES[identity % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(identity * _GOLDEN % 1.0, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def ink_on(colour: Colour) -> Colour:
    """Return black or white, the one with the higher contrast on a colour; it is at least 4.5, as WCAG 2 asks of text.

    >>> ink_on((0, 255, 255)), ink_on((255, 0, 0))
    ((0, 0, 0), (255, 255, 255))
    """
    return max(BLACK, WHITE, key=lambda ink: contrast(ink, colour))


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast ratio of two colours in [1, 21], as defined by WCAG 2.

    >>> contrast((0, 0, 0), (255, 255, 255))
    21.0
    """
    darker, brighter = sorted((_luminance(one), _luminance(other)))
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(colour: Colour) -> float:
    blue, green, red = (
        value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour
    )
    return 0.0722 * blue + 0.7152 * green + 0.2126 * red

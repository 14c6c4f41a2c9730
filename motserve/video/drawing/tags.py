"""Renders texts as small opaque pictures. They are cached, because most labels are the same in every frame."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.types import Image
from motserve.video.drawing.colours import Colour, ink_on

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_FINER: Final = 4  # letters are drawn so much larger and then reduced, which makes small ones readable
_STROKE: Final = 0.12  # width of a stroke as a share of the height of a digit
_PAD: Final = 0.45  # border around the text as a share of the height of a digit
_MOST_CHARACTERS: Final = 64  # names of classes come from files
_LOW_LETTERS: Final = frozenset("gjpqyQ,;()[]{}|/\\_@$")

# The arrow with a hook, in units of its height from the top left.
_HOOK: Final = ((0.35, 0.12), (0.66, 0.12), (0.86, 0.22), (0.94, 0.42), (0.86, 0.62), (0.66, 0.72), (0.08, 0.72))
_ARROWHEAD: Final = ((0.36, 0.46), (0.08, 0.72), (0.36, 0.98))


@lru_cache(maxsize=512)  # more than the people of a frame, so that a crowd does not evict its own labels
def render_tag(text: str, colour: Colour, text_height: int, has_arrow: bool = False) -> Image:
    """Render a text on a filled rectangle, in black or white, the one with the higher contrast.

    Args:
        text: The text; characters outside ASCII are shown as `?`, and only the first 64 characters.
        colour: Colour of the rectangle.
        text_height: Height of a digit in pixels.
        has_arrow: Whether an arrow with a hook follows the text, which says that a person has returned.

    Returns:
        `(height, width, 3)` uint8 BGR; read-only, because it is shared.
    """
    text = "".join(letter if " " <= letter <= "~" else "?" for letter in text[:_MOST_CHARACTERS])
    share = _ink(text, text_height, has_arrow).astype(np.float32)[..., None] / 255
    tag = np.asarray(colour, np.float32) * (1 - share) + np.asarray(ink_on(colour), np.float32) * share
    image = np.asarray(np.rint(tag), np.uint8)
    image.flags.writeable = False
    return image


def _ink(text: str, text_height: int, has_arrow: bool) -> NDArray[np.uint8]:
    """Return how much of each pixel of a tag is ink, `(height, width)` uint8, 0 to 255."""
    size = _FINER * text_height
    pad = _FINER * max(2, round(_PAD * text_height))
    stroke = max(1, round(_STROKE * size))
    letters = _letters(text, size, stroke)
    height = size + 2 * pad + (size // 3 // _FINER * _FINER if _LOW_LETTERS & set(text) else 0)
    arrow = size + pad  # higher than the letters, because its parts are finer
    width = letters.shape[1] + 2 * pad + (arrow + stroke if has_arrow else 0)
    canvas = np.zeros((height, -(-width // _FINER) * _FINER), np.uint8)
    shown = min(len(letters), height - pad)
    canvas[pad : pad + shown, pad : pad + letters.shape[1]] = letters[:shown]
    if has_arrow:
        origin = np.array([canvas.shape[1] - pad // 2 - arrow, pad // 2])
        for points in (_HOOK, _ARROWHEAD):
            line = np.rint(np.array(points) * (arrow - stroke) + stroke / 2 + origin).astype(np.int32)
            cv2.polylines(canvas, [line], False, 255, stroke, cv2.LINE_8)
    smaller = cv2.resize(canvas, (canvas.shape[1] // _FINER, height // _FINER), interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8)


def _letters(text: str, size: int, stroke: int) -> NDArray[np.uint8]:
    """Draw a text in white; its digits fill the rows from 0 to `size`, and its first letter begins at the left edge."""
    scale = size / _digit_height()
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    canvas = np.zeros((size + size // 2, width + 2 * stroke + 1), np.uint8)
    cv2.putText(canvas, text, (stroke, size - stroke // 2 - 1), _FONT, scale, 255, stroke, cv2.LINE_8)
    inked = np.flatnonzero(canvas.any(axis=0))
    return canvas[:, inked[0] : inked[-1] + 1] if len(inked) else canvas[:, :1]


@lru_cache(maxsize=1)
def _digit_height() -> float:
    """Return the height of a digit in pixels at scale 1, measured, because versions of OpenCV have other fonts."""
    large, room = 10, 600
    canvas = np.zeros((room, room), np.uint8)
    cv2.putText(canvas, "0", (room // 4, 3 * room // 4), _FONT, large, 255, 1 + large, cv2.LINE_8)
    return int(np.count_nonzero(canvas.any(axis=1))) / large

"""Draws pictures with people-like shapes, on which two implementations of a network are compared."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from motserve.types import Image

_SEED: Final = 20
_PEOPLE: Final = 8


def sample_pictures(count: int, height: int, width: int) -> Image:
    """Draw streets with people: smooth areas, edges, textures and noise, so that all layers of a network have input.

    Args:
        count: Number of pictures; each is different, and the same in every call.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        `(count, height, width, 3)` uint8 BGR.
    """
    random = np.random.default_rng(_SEED)
    return np.stack([_draw(random, height, width) for _ in range(count)])


def _draw(random: np.random.Generator, height: int, width: int) -> Image:
    coarse = random.integers(40, 220, (6, 8, 3), np.uint8)
    picture = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    for _ in range(_PEOPLE):
        _draw_person(picture, random, height, width)
    noise = random.normal(0, 4, picture.shape)
    return np.asarray((cv2.GaussianBlur(picture, (3, 3), 0) + noise).clip(0, 255), np.uint8)


def _draw_person(picture: Image, random: np.random.Generator, height: int, width: int) -> None:
    tall = height * random.uniform(0.2, 0.8)
    left, top = random.uniform(0, width), random.uniform(0, height - tall / 2)
    skin, shirt, trousers = (tuple(map(int, random.integers(0, 256, 3))) for _ in range(3))

    def box(x: float, y: float, right: float, bottom: float, colour: tuple[int, ...]) -> None:
        corners = ((int(left + x * tall), int(top + y * tall)), (int(left + right * tall), int(top + bottom * tall)))
        cv2.rectangle(picture, *corners, colour, -1)

    box(-0.13, 0.15, 0.13, 0.55, shirt)
    box(-0.11, 0.55, -0.01, 1.0, trousers)
    box(0.02, 0.55, 0.12, 1.0, trousers)
    head = (int(left), int(top + 0.08 * tall))
    cv2.ellipse(picture, head, (max(int(0.06 * tall), 1), max(int(0.08 * tall), 1)), 0, 0, 360, skin, -1)

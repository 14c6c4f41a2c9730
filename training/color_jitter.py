"""Colour jitter: random exposure, contrast, tint, saturation and shadows."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from pydantic import Field, model_validator

from motserve.config.base import Section, Share
from motserve.types import Image


class ColorJitterConfig(Section):
    """Strength of the colour jitter; 0 turns a change off."""

    gain: Share = Field(0.22, description="Standard deviation of the exposure's logarithm.")
    gamma: Share = Field(0.25, description="Standard deviation of the logarithm of the contrast curve's exponent.")
    tint: Share = Field(0.07, description="Standard deviation of the logarithm of each channel's gain.")
    offset: Share = Field(0.04, description="Standard deviation of the black level, as a share of white.")
    cast: Share = Field(0.0, description="Standard deviation of each channel's black level, as a share of white.")
    saturation: tuple[float, float] = Field((0.3, 1.5), description="Least and largest factor of the saturation.")
    shadow: Share = Field(0.15, description="Share of pictures with a shadow.")

    @model_validator(mode="after")
    def _ordered(self) -> ColorJitterConfig:
        if not 0 <= self.saturation[0] <= self.saturation[1]:
            raise ValueError(f"saturation {list(self.saturation)}: the smaller factor must be first and not below 0")
        return self


DEFAULT_JITTER: Final = ColorJitterConfig()


def without_colour(image: Image) -> Image:
    """Return a `(height, width, 3)` BGR picture in shades of grey."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)


def jitter_colors(image: Image, rng: np.random.Generator, strength: ColorJitterConfig = DEFAULT_JITTER) -> Image:
    """Change exposure, contrast, tint and saturation of a picture at random, and sometimes add a shadow.

    Args:
        image: `(height, width, 3)` uint8 BGR.
        rng: Random generator.
        strength: Strength of each change.
    """
    levels = np.linspace(0, 1, 256)[:, None]
    gain, gamma = np.exp(rng.normal(0, strength.gain)), np.exp(rng.normal(0, strength.gamma))
    tint = np.exp(rng.normal(0, strength.tint, 3))
    black = rng.normal(0, strength.offset) + (rng.normal(0, strength.cast, 3) if strength.cast else 0)
    table = np.clip(black + gain * tint * levels**gamma, 0, 1)
    jittered = np.asarray(cv2.LUT(image, (table * 255).astype(np.uint8)[None]), np.uint8)
    grey = without_colour(jittered)
    saturation = rng.uniform(*strength.saturation)
    jittered = np.asarray(cv2.addWeighted(jittered, saturation, grey, 1 - saturation, 0), np.uint8)
    if rng.random() < strength.shadow:
        height, width = image.shape[:2]
        shade = np.full((height, width), 255, np.uint8)
        corners = rng.uniform(-0.3, 1.3, (4, 2)) * (width, height)
        cv2.fillConvexPoly(shade, cv2.convexHull(corners.astype(np.int32)), int(rng.uniform(90, 200)))
        soft = cv2.GaussianBlur(shade, (0, 0), rng.uniform(1, 12))
        jittered = np.asarray(cv2.multiply(jittered, cv2.merge([soft] * 3), scale=1 / 255), np.uint8)
    return jittered

"""The light and the colours of another camera on a picture."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from pydantic import Field, model_validator

from motserve.config.base import Section, Share
from motserve.types import Image


class LightConfig(Section):
    """How far light and cameras differ."""

    gain: Share = Field(0.22, description="Standard deviation of the exposure's logarithm.")
    gamma: Share = Field(0.25, description="Standard deviation of the logarithm of the contrast curve's exponent.")
    tint: Share = Field(0.07, description="Standard deviation of the logarithm of each channel's gain.")
    offset: Share = Field(0.04, description="Standard deviation of the black level, as a share of white.")
    cast: Share = Field(0.0, description="Standard deviation of each channel's black level, as a share of white.")
    saturation: tuple[float, float] = Field((0.3, 1.5), description="Least and largest factor of the saturation.")
    shadow: Share = Field(0.15, description="Share with a shadow across the picture.")

    @model_validator(mode="after")
    def _ordered(self) -> LightConfig:
        if not 0 <= self.saturation[0] <= self.saturation[1]:
            raise ValueError(f"saturation {list(self.saturation)}: needs the least factor first, not below 0")
        return self


USUAL: Final = LightConfig()


def relit(image: Image, rng: np.random.Generator, light: LightConfig = USUAL) -> Image:
    """Give a picture another exposure, contrast, tint and saturation, and now and then a shadow across it.

    Args:
        image: `(height, width, 3)` uint8 BGR.
        rng: Everything random.
        light: How much.
    """
    levels = np.linspace(0, 1, 256)[:, None]
    gain, gamma = np.exp(rng.normal(0, light.gain)), np.exp(rng.normal(0, light.gamma))
    tint = np.exp(rng.normal(0, light.tint, 3))
    black = rng.normal(0, light.offset) + (rng.normal(0, light.cast, 3) if light.cast else 0)
    table = np.clip(black + gain * tint * levels**gamma, 0, 1)
    relit_ = np.asarray(cv2.LUT(image, (table * 255).astype(np.uint8)[None]), np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(relit_, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    saturation = rng.uniform(*light.saturation)
    relit_ = np.asarray(cv2.addWeighted(relit_, saturation, grey, 1 - saturation, 0), np.uint8)
    if rng.random() < light.shadow:
        height, width = image.shape[:2]
        shade = np.full((height, width), 255, np.uint8)
        corners = rng.uniform(-0.3, 1.3, (4, 2)) * (width, height)
        cv2.fillConvexPoly(shade, cv2.convexHull(corners.astype(np.int32)), int(rng.uniform(90, 200)))
        soft = cv2.GaussianBlur(shade, (0, 0), rng.uniform(1, 12))
        relit_ = np.asarray(cv2.multiply(relit_, cv2.merge([soft] * 3), scale=1 / 255), np.uint8)
    return relit_

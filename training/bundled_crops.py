"""Crops of rendered people for the embedder: many identities, many views of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motserve.reid.crops import cut_crops
from motserve.scenes.looks import sample_look
from motserve.types import FloatArray, IntArray
from training.bundled_config import EmbedderTraining
from training.bundled_pictures import pictures

SMALLEST_CROP = 24
"""Pixels that the part of a box inside the picture must measure from top to bottom; the service asks for 32."""


CROP_SETTINGS = {"pictures", "crop_height", "crop_width", "views", "least_visibility", "jitter"}
"""Settings that decide what the crops look like."""


@dataclass(frozen=True, slots=True)
class Crops:
    """Crops and whom they show.

    Attributes:
        pixels: `(identities, views, height, width, 3)` uint8 BGR.
        pictures: `(identities, views)` int64, number of the picture that a crop was cut from.
    """

    pixels: NDArray[np.uint8]
    pictures: IntArray


def render_crops(settings: EmbedderTraining, seed: int, identities: int, cache: Path) -> Crops:
    """Render people in groups until there are enough crops of everybody, or read them from an earlier run.

    Args:
        settings: Size, number and quality of the crops.
        seed: Everything random follows from this number.
        identities: How many people.
        cache: File that keeps the crops; one that was made with other settings is written anew.
    """
    stamp = json.dumps([settings.model_dump(include=CROP_SETTINGS), seed, identities], sort_keys=True)
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["stamp"]) == stamp:
                return Crops(kept["pixels"], kept["pictures"])
    shape = (identities, settings.views, settings.crop_height, settings.crop_width, 3)
    pixels = np.empty(shape, np.uint8)
    origin = np.empty(shape[:2], np.int64)
    group = settings.pictures.most_people
    for start in range(0, identities, group):
        rng = np.random.default_rng([seed, start])
        looks = [sample_look(rng) for _ in range(min(group, identities - start))]
        have = np.zeros(len(looks), np.int64)
        shots = pictures(settings.pictures, int(rng.integers(1 << 31)), 1000 * settings.views, looks)
        for number, (shot, rows) in enumerate(shots):
            height = len(shot.image)
            boxes = _jittered(shot.boxes, settings.jitter, rng)
            inside = np.clip(boxes[:, 3], 0, height) - np.clip(boxes[:, 1], 0, height)
            crops = cut_crops(shot.image, boxes, settings.crop_height, settings.crop_width)
            good = (shot.visibility >= settings.least_visibility) & (inside >= SMALLEST_CROP)
            for row, crop in ((rows[i], crops[i]) for i in np.flatnonzero(good)):
                if have[row] < settings.views:
                    pixels[start + row, have[row]] = crop
                    origin[start + row, have[row]] = number
                    have[row] += 1
            if (have == settings.views).all():
                break
    part = cache.with_suffix(".part.npz")
    np.savez(part, pixels=pixels, pictures=origin, stamp=stamp)
    part.replace(cache)
    return Crops(pixels, origin)


def _jittered(boxes: FloatArray, deviation: float, rng: np.random.Generator) -> FloatArray:
    """Move the edges of boxes as a detector's edges are moved."""
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.asarray(boxes + size * rng.normal(0, deviation, boxes.shape), np.float32)

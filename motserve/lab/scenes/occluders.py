"""Occluders among the people: pillars, benches and planters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes.camera import Camera
from motserve.lab.scenes.clothing import Colour, sample_hue, shade

FINE = 2


@dataclass(frozen=True, slots=True)
class Occluder:
    """A drawn occluder and its depth in the scene.

    Attributes:
        depth: Distance from the camera in metres.
        left: Column of the first pixel in the picture of a still camera; may be negative.
        top: Row of the first pixel.
        pixels: `(h, w, 4)` uint8, BGR multiplied by the coverage, and the coverage.
    """

    depth: float
    left: int
    top: int
    pixels: NDArray[np.uint8]


def pillar(camera: Camera, margin: int, rng: np.random.Generator) -> Occluder:
    """Draw a pillar from floor to ceiling, nearer than most people and away from the sides of the picture."""
    depth = camera.near + (camera.far - camera.near) * rng.uniform(0.02, 0.35)
    column, row, scale = camera.project(0.0, depth)
    column += rng.choice([-1, 1]) * rng.uniform(0.06, 0.32) * camera.width
    half = rng.uniform(0.16, 0.26) * scale
    left, right = math.floor(column - half * 1.3), math.ceil(column + half * 1.3)
    top, bottom = -margin, math.ceil(row + 0.1 * scale)
    canvas = np.zeros(((bottom - top) * FINE, (right - left) * FINE, 4), np.uint8)
    width = canvas.shape[1]
    colour = sample_hue(rng, (0.03, 0.2), (0.55, 0.88))
    inner = round(width * 0.115)
    ramp = 0.62 + 0.45 * np.sin(np.linspace(0.5, math.pi, width - 2 * inner)) ** 0.8
    canvas[:, inner : width - inner, :3] = np.clip(np.array(colour) * ramp[:, None], 0, 255)
    canvas[:, inner : width - inner, 3] = 255
    base = round(0.28 * scale * FINE)
    canvas[-base:, :, :3] = np.array(shade(colour, 0.62))
    canvas[-base:, :, 3] = 255
    return _reduced(canvas, depth, left, top)


def bench(camera: Camera, rng: np.random.Generator) -> Occluder:
    """Draw a wooden bench."""
    depth, column, row, scale = _place(camera, rng)
    half, tall = 0.85 * scale, 0.85 * scale
    left, top = math.floor(column - half), math.floor(row - tall)
    canvas = np.zeros((math.ceil(tall) * FINE, math.ceil(2 * half) * FINE, 4), np.uint8)
    wood = shade((70.0, 105.0, 150.0), rng.uniform(0.7, 1.15))
    unit = scale * FINE

    def box(x: float, up: float, wide: float, high: float, colour: Colour) -> None:
        bottom = canvas.shape[0] - up * unit
        first, last = (round(x * unit), round(bottom - high * unit)), (round((x + wide) * unit), round(bottom))
        cv2.rectangle(canvas, first, last, (*colour, 255), cv2.FILLED)

    for x in (0.12, 1.5):
        box(x, 0.0, 0.07, 0.42, (55, 52, 50))
        box(x, 0.42, 0.05, 0.42, (55, 52, 50))
    for index, up in enumerate((0.38, 0.45, 0.58, 0.7)):
        box(0.03, up, 1.62, 0.075, shade(wood, 1.1 - 0.08 * index))
    return _reduced(canvas, depth, left, top)


def planter(camera: Camera, rng: np.random.Generator) -> Occluder:
    """Draw a box with a plant."""
    depth, column, row, scale = _place(camera, rng)
    half, tall = 0.5 * scale, rng.uniform(0.9, 1.3) * scale
    left, top = math.floor(column - half), math.floor(row - tall)
    canvas = np.zeros((math.ceil(tall) * FINE, math.ceil(2 * half) * FINE, 4), np.uint8)
    height, width = canvas.shape[:2]
    pot = sample_hue(rng, (0.05, 0.3), (0.35, 0.75))
    rim = height - round(0.45 * scale * FINE)
    green = shade((62.0, 120.0, 72.0), rng.uniform(0.7, 1.2))
    for _ in range(70):
        angle, reach = rng.uniform(-1.25, 1.25), rng.uniform(0.25, 1.0)
        tip = (width / 2 + math.sin(angle) * reach * width * 0.42, rim * (1 - 0.92 * math.cos(angle) * reach))
        colour = shade(green, rng.uniform(0.55, 1.25))
        axes = (round(0.03 * scale * FINE) + 1, round(0.1 * scale * FINE) + 1)
        cv2.ellipse(
            canvas, (round(tip[0]), round(tip[1])), axes, math.degrees(angle), 0, 360, (*colour, 255), cv2.FILLED
        )
    body = np.array([(0.14, rim), (0.86, rim), (0.78, height), (0.22, height)]) * (width, 1)
    cv2.fillPoly(canvas, [np.rint(body).astype(np.int32)], (*pot, 255))
    edge = round(0.09 * scale * FINE)
    cv2.rectangle(
        canvas, (round(0.12 * width), rim), (round(0.88 * width), rim + edge), (*shade(pot, 1.2), 255), cv2.FILLED
    )
    return _reduced(canvas, depth, left, top)


def _place(camera: Camera, rng: np.random.Generator) -> tuple[float, float, float, float]:
    depth = camera.near + (camera.far - camera.near) * rng.uniform(0.0, 0.8)
    column, row, scale = camera.project(0.0, depth)
    return depth, column + rng.uniform(-0.48, 0.48) * camera.width, row, scale


def _reduced(canvas: NDArray[np.uint8], depth: float, left: int, top: int) -> Occluder:
    size = (canvas.shape[1] // FINE, canvas.shape[0] // FINE)
    return Occluder(depth, left, top, np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), np.uint8))

"""Paints the backdrop: a floor in perspective and a wall with shop fronts, doors, windows and signs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes.camera import Camera
from motserve.lab.scenes.clothing import Colour, sample_hue, shade

Picture = NDArray[np.uint8]

WALL_GAP = 1.12
"""Distance of the wall as a multiple of the distance of the farthest people."""

FINE = 2
"""The backdrop is painted this many times larger and then reduced, which smooths its edges."""


def paint(camera: Camera, margin: int, rng: np.random.Generator) -> Picture:
    """Paint the backdrop without people.

    Args:
        camera: The camera.
        margin: Pixels painted beyond the picture on each side.
        rng: Source of randomness for floor, wall and light.

    Returns:
        `(height + 2 margin, width + 2 margin, 3)` uint8 BGR.
    """
    width, height = camera.width + 2 * margin, camera.height + 2 * margin
    fine = _Wall(camera, margin, rng)
    picture = fine.paint(width * FINE, height * FINE)
    foot = fine.row(0.0)
    _floor(picture, foot, camera, margin, rng, gloss=rng.choice([0.0, 0.12, 0.2]))
    _light(picture, rng)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class _Wall:
    """A wall parallel to the picture; lengths on it are metres from the optical axis and from the floor."""

    def __init__(self, camera: Camera, margin: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._distance = camera.far * WALL_GAP
        _, row, scale = camera.project(0.0, self._distance)
        self._scale = scale * FINE
        self._foot = (row + margin) * FINE
        self._axis = (camera.width / 2 + margin) * FINE

    def row(self, up: float) -> float:
        return self._foot - up * self._scale

    def paint(self, width: int, height: int) -> Picture:
        rng = self._rng
        base = _muted(rng)
        picture = np.empty((height, width, 3), np.uint8)
        picture[:] = base
        if rng.random() < 0.4:
            self._bricks(picture, base)
        half_width = self._axis / self._scale
        x = -half_width - rng.uniform(0, 2)
        while x < half_width:
            span = rng.uniform(1.2, 3.6)
            feature = rng.choice(5, p=(0.36, 0.16, 0.18, 0.12, 0.18))
            if feature == 0:
                self._shop(picture, x, span)
            elif feature == 1:
                self._box(picture, x + 0.1, 0.0, x + 1.05, 2.1, _muted(rng, 0.7))
                self._box(picture, x + 0.2, 0.95, x + 0.95, 1.95, _glass(rng))
                span = 1.2
            elif feature == 2:
                self._box(picture, x + 0.1, 0.9, x + span - 0.1, 2.2, shade(base, 1.2))
                self._window(picture, x + 0.18, 0.98, x + span - 0.18, 2.12)
            elif feature == 3:
                self._poster(picture, x + 0.2, min(span, 1.4))
            x += span + rng.uniform(0.05, 0.9)
        self._box(picture, -2 * half_width, 0.0, 2 * half_width, 0.12, shade(base, 0.55))
        if rng.random() < 0.6:
            self._box(picture, -2 * half_width, 2.9, 2 * half_width, 3.2, shade(base, 0.75))
        return picture

    def _box(self, picture: Picture, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        first, last = self._pixel(left, top), self._pixel(right, bottom)
        cv2.rectangle(picture, first, last, colour, cv2.FILLED)

    def _pixel(self, x: float, up: float) -> tuple[int, int]:
        return round(self._axis + x * self._scale), round(self.row(up))

    def _window(self, picture: Picture, left: float, bottom: float, right: float, top: float) -> None:
        rng = self._rng
        glass = _glass(rng)
        (x0, y0), (x1, y1) = self._pixel(left, top), self._pixel(right, bottom)
        x0, x1 = max(x0, 0), min(x1, picture.shape[1])
        y0, y1 = max(y0, 0), min(y1, picture.shape[0])
        if x1 - x0 < 4 or y1 - y0 < 4:
            return
        ramp = np.linspace(1.25, 0.7, y1 - y0)[:, None, None] * np.linspace(0.9, 1.1, x1 - x0)[None, :, None]
        pane = np.clip(np.array(glass) * ramp, 0, 255).astype(np.uint8)
        shine = pane.copy()
        for _ in range(int(rng.integers(1, 4))):
            x, wide = rng.uniform(0, x1 - x0), rng.uniform(0.1, 0.4) * (x1 - x0)
            slope = 0.5 * (y1 - y0)
            band = np.array([(x, 0), (x + wide, 0), (x + wide - slope, y1 - y0), (x - slope, y1 - y0)])
            cv2.fillPoly(shine, [band.astype(np.int32)], shade(glass, 1.7))
        picture[y0:y1, x0:x1] = cv2.addWeighted(pane, 0.72, shine, 0.28, 0)

    def _shop(self, picture: Picture, x: float, span: float) -> None:
        rng = self._rng
        sign = _vivid(rng)
        self._box(picture, x, 0.0, x + span, 2.75, shade(sign, 0.5))
        self._window(picture, x + 0.1, 0.45, x + span - 0.1, 2.15)
        for level in (0.5, 1.0, 1.5):
            if rng.random() < 0.7:
                at = x + 0.25
                while at < x + span - 0.5:
                    wide, tall = rng.uniform(0.1, 0.3), rng.uniform(0.12, 0.4)
                    self._box(picture, at, level, at + wide, level + tall, shade(_vivid(rng), 0.75))
                    at += wide + rng.uniform(0.02, 0.25)
                self._box(picture, x + 0.15, level - 0.04, x + span - 0.15, level, (70, 85, 100))
        self._box(picture, x, 2.25, x + span, 2.7, sign)
        at = x + 0.3
        while at < x + span - 0.4:
            wide = rng.uniform(0.1, 0.24)
            self._box(picture, at, 2.37, at + wide, 2.58, shade(sign, 0.35) if sum(sign) > 330 else (235, 235, 235))
            at += wide + 0.06
        if rng.random() < 0.55:
            stripes = max(3, round(span / 0.3))
            for index in range(stripes):
                left, right = (x + (index + step) * span / stripes for step in (0, 1))
                corners = [(left, 2.3), (right, 2.3), (right + 0.03, 1.98), (left - 0.03, 1.98)]
                colour = sign if index % 2 else (232, 236, 240)
                cv2.fillPoly(picture, [np.array([self._pixel(*corner) for corner in corners])], colour)

    def _poster(self, picture: Picture, x: float, span: float) -> None:
        rng = self._rng
        self._box(picture, x, 0.8, x + span, 2.1, (225, 228, 230))
        self._box(picture, x + 0.06, 0.86, x + span - 0.06, 2.04, _vivid(rng))
        for _ in range(int(rng.integers(2, 5))):
            centre = self._pixel(x + rng.uniform(0.25, 0.75) * span, rng.uniform(1.1, 1.8))
            cv2.circle(picture, centre, round(rng.uniform(0.06, 0.22) * self._scale), _vivid(rng), cv2.FILLED)

    def _bricks(self, picture: Picture, base: Colour) -> None:
        rng = self._rng
        height, width = picture.shape[:2]
        up = (self._foot - np.arange(height)) / (self._scale * 0.09)
        along = (np.arange(width) - self._axis) / (self._scale * 0.24)
        course = np.floor(up).astype(np.int64)
        brick = np.floor(along[None, :] + 0.5 * (course[:, None] % 2)).astype(np.int64)
        tones = rng.uniform(0.86, 1.1, (61, 67)).astype(np.float32)
        tone = tones[course[:, None] % 61, brick % 67]
        edge = (np.mod(up, 1) < 0.13)[:, None] | (np.mod(along[None, :] + 0.5 * (course[:, None] % 2), 1) < 0.05)
        tone[edge] = 1.2
        strength = float(np.clip(self._scale * 0.09 / 5, 0, 1))
        tone = 1 + (tone - 1) * strength
        picture[:] = np.clip(np.array(base, np.float32) * tone[:, :, None], 0, 255).astype(np.uint8)


def _floor(picture: Picture, foot: float, camera: Camera, margin: int, rng: np.random.Generator, gloss: float) -> None:
    height, width = picture.shape[:2]
    start = int(np.clip(round(foot), 0, height))
    if start >= height:
        return
    rows = (np.arange(start, height) + 0.5) / FINE - margin
    z = camera.focal * camera.elevation / np.maximum(rows - camera.horizon, 1e-3)
    columns = (np.arange(width) + 0.5) / FINE - margin - camera.width / 2
    x = columns[None, :] * (z / camera.focal)[:, None]
    size, deep = (rng.uniform(0.45, 1.1), 1.0) if rng.random() < 0.7 else (rng.uniform(0.16, 0.3), 8.0)
    along = np.broadcast_to((z / (size * deep))[:, None], x.shape)
    across = x / size
    cell_x, cell_z = np.floor(across).astype(np.int64), np.floor(along).astype(np.int64)
    if deep > 1:
        along = along + 0.37 * (cell_x % 3)
        cell_z = np.floor(along).astype(np.int64)
    spread = rng.choice([0.03, 0.06, 0.12])
    tone = rng.uniform(1 - spread, 1 + spread, (61, 67)).astype(np.float32)[cell_z % 61, cell_x % 67]
    if rng.random() < 0.3:
        tone *= np.where((cell_x + cell_z) % 2 == 0, np.float32(0.84), np.float32(1.08))
    pixels_per_tile = (camera.focal / z * size * FINE)[:, None]
    joint = np.float32(1.6) / pixels_per_tile
    edge = (np.mod(across, 1) < joint) | (
        np.mod(along, 1) < joint * np.maximum(pixels_per_tile / (camera.elevation * 40), 1)
    )
    tone = np.where(edge, tone * np.float32(rng.uniform(0.72, 0.9)), tone)
    speckle = rng.normal(1, rng.uniform(0.005, 0.035), tone.shape).astype(np.float32)
    base = np.array(_muted(rng, rng.uniform(0.75, 1.05)), np.float32)
    painted = base * (tone * speckle)[:, :, None]
    if gloss:
        mirrored = picture[max(0, 2 * start - height) : start][::-1].astype(np.float32)
        if len(mirrored):
            mirrored = np.asarray(cv2.blur(mirrored, (9, 41)), np.float32)
        fade = np.linspace(1, 0.2, len(mirrored), dtype=np.float32)[:, None, None] * np.float32(gloss)
        painted[: len(mirrored)] += (mirrored - painted[: len(mirrored)]) * fade
    picture[start:] = np.clip(painted, 0, 255).astype(np.uint8)


def _light(picture: Picture, rng: np.random.Generator) -> None:
    """Apply uneven light in place: large soft patches and darker corners."""
    height, width = picture.shape[:2]
    patches = rng.uniform(0.82, 1.14, (4, 5)).astype(np.float32)
    light = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    light *= 1 - np.float32(0.1) * (x[None, :] ** 2 + y[:, None] ** 2)
    np.clip(picture * light[:, :, None], 0, 255, out=picture, casting="unsafe")


def _muted(rng: np.random.Generator, brightness: float = 1.0) -> Colour:
    return sample_hue(rng, (0.04, 0.22), (0.5 * brightness, 0.86 * brightness))


def _vivid(rng: np.random.Generator) -> Colour:
    return sample_hue(rng, (0.25, 0.7), (0.35, 0.85))


def _glass(rng: np.random.Generator) -> Colour:
    return shade((168.0, 150.0, 128.0), rng.uniform(0.45, 1.1))

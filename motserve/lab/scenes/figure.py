"""Draws one person as a small picture with transparency: a sprite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes.body import Array, Limbs, Pose, Surface, View, capsules, walk
from motserve.lab.scenes.clothing import Colour, PersonAppearance, shade

SUBPIXEL_BITS = 4
SOLID = 128
"""Coverage out of 255 from which a pixel belongs to the person."""

FULL = 2 * math.pi
FRONT = math.pi / 2
LONG_SKIRT_STRIDE = 0.55
"""Leg swing that a long skirt permits, as a share of a free stride."""

REACH_M = 0.85
"""Largest sideways distance of any part of a person from the feet."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn person or occluder.

    Attributes:
        left: Column of the sprite's first pixel in the picture; may be negative.
        top: Row of the sprite's first pixel.
        pixels: `(h, w, 4)` uint8, BGR already multiplied by the coverage, and the coverage in [0, 255].
        box: xyxy in pixels of the picture; it encloses the covered pixels.
    """

    left: int
    top: int
    pixels: NDArray[np.uint8]
    box: tuple[float, float, float, float]


Fill = Callable[[Array | None, Colour], None]


def draw_person(appearance: PersonAppearance, pose: Pose, tilt: float, placement: Array) -> Sprite:
    """Draw a person.

    Args:
        appearance: Appearance.
        pose: Heading and gait.
        tilt: Angle in radians at which the camera looks down.
        placement: `(2, 3)` affine map from metres at the feet (right, down) to pixels of the picture.

    Returns:
        The sprite, cropped to its extent. The box is exact to half a pixel of the drawing, which is finer than the
        picture's.
    """
    scale = math.hypot(placement[0, 0], placement[1, 0])
    detail = int(np.clip(math.ceil(150 / max(scale * appearance.height, 1)), 2, 6))
    foot_x, foot_y = placement[:, 2]
    reach, rise = REACH_M * scale + 2, (appearance.height * 1.12 + 0.1) * scale + 2
    left, top = math.floor(foot_x - reach), math.floor(foot_y - rise)
    width, height = math.ceil(2 * reach) + 1, math.ceil(rise + 0.4 * scale + 2)
    canvas = np.zeros((height * detail, width * detail, 4), np.uint8)
    to_canvas = placement[:, :2].T * detail
    # The centre of pixel 0 of the fine canvas lies half a fine pixel from the edge of the sprite.
    origin = (placement[:, 2] - (left, top)) * detail - 0.5

    def fill(polygon: Array | None, colour: Colour) -> None:
        if polygon is not None:
            points = np.rint((polygon @ to_canvas + origin) * (1 << SUBPIXEL_BITS)).astype(np.int32)
            cv2.fillPoly(canvas, [points], (*colour, 255), cv2.LINE_8, SUBPIXEL_BITS)

    _draw(fill, appearance, pose, View.of(pose.heading, tilt))
    x, y, w, h = cv2.boundingRect(canvas[:, :, 3])
    box = (left + x / detail, top + y / detail, left + (x + w) / detail, top + (y + h) / detail)
    x0, y0 = x // detail, y // detail
    x1, y1 = -(-(x + w) // detail), -(-(y + h) // detail)
    fine = canvas[y0 * detail : y1 * detail, x0 * detail : x1 * detail]
    pixels = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return Sprite(left + x0, top + y0, _shade_edges(np.asarray(pixels, np.uint8)), box)


def _shade_edges(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Darken the edges, more on the right, to imitate light from the left."""
    height, width = pixels.shape[:2]
    kernel = max(3, int(height * 0.07) | 1)
    coverage = pixels[:, :, 3]
    padded = cv2.copyMakeBorder(coverage, 0, 0, 0, kernel // 2, cv2.BORDER_CONSTANT, value=0)
    soft = cv2.blur(padded, (kernel, kernel), borderType=cv2.BORDER_CONSTANT)[:, kernel // 2 :][:, :width]
    light = cv2.addWeighted(soft, 0.42, coverage, 0.0, 255 * 0.62)
    lit = cv2.multiply(pixels, cv2.merge([light, light, light, np.full_like(light, 255)]), scale=1 / 255)
    return np.asarray(lit, np.uint8)


def _draw(fill: Fill, appearance: PersonAppearance, pose: Pose, view: View) -> None:
    limbs = walk(
        appearance.height, appearance.build, pose, LONG_SKIRT_STRIDE if appearance.bottom == "long_skirt" else 1.0
    )
    lift = limbs.bob
    facing = math.cos(pose.heading)
    trunk = _trunk(appearance, pose, lift)
    pack = _surface(
        appearance, lift, [(0.58, 0.085, 0.05), (0.61, 0.1, 0.062), (0.76, 0.095, 0.055), (0.8, 0.06, 0.03)]
    )
    pack.centre[:, 1] = -0.115 * appearance.height
    mane = _surface(
        appearance, lift, [(0.77, 0.05, 0.03), (0.82, 0.066, 0.04), (0.95, 0.064, 0.045), (0.985, 0.04, 0.03)]
    )
    mane.centre[:, 1] = -0.022 * appearance.height
    pouch = _surface(appearance, lift, [(0.42, 0.028, 0.075), (0.44, 0.034, 0.09), (0.54, 0.03, 0.085)])
    pouch.centre[:, 0] = -0.135 * appearance.height * appearance.build

    if appearance.bag == "backpack" and facing > 0:
        _bag(fill, pack, view, appearance.bag_colour)
    if appearance.hair_style == "long" and facing > 0:
        fill(mane.patch(view, 0, FULL), shade(appearance.hair, 0.8))
    pouch_in_front = math.sin(pose.heading) > 0
    if appearance.bag == "shoulder" and not pouch_in_front:
        _bag(fill, pouch, view, appearance.bag_colour)

    arms, legs = _arms(appearance, limbs, view), _legs(appearance, limbs, view)
    behind = [part for depth, part in arms if depth < -0.03]
    before = [part for depth, part in arms if depth >= -0.03]
    for parts in behind:
        _capsules(fill, parts, view, 0.8)
    for index, (_, parts) in enumerate(legs):
        _capsules(fill, parts, view, 0.78 if index == 0 else 1.0)
    if appearance.bottom in ("skirt", "long_skirt"):
        hem, flare = (0.33, 0.1) if appearance.bottom == "skirt" else (0.12, 0.12)
        skirt = _surface(
            appearance,
            lift,
            [(hem, flare, flare * (0.75 + 0.3 * pose.stride)), (0.52, 0.088, 0.064), (0.6, 0.078, 0.058)],
        )
        fill(skirt.patch(view, 0, FULL), appearance.bottom_colour)
        fill(skirt.patch(view, 0, FULL, 0.0, 0.1), shade(appearance.bottom_colour, 0.85))
    else:
        hips = _surface(appearance, lift, [(0.47, 0.075, 0.058), (0.52, 0.09, 0.066), (0.6, 0.08, 0.06)])
        fill(hips.patch(view, 0, FULL), appearance.bottom_colour)
    _clothe(fill, appearance, trunk, view)
    if appearance.bag == "shoulder" and pouch_in_front:
        _bag(fill, pouch, view, appearance.bag_colour)
    if appearance.bag == "backpack":
        for angle in (0.6, 2.2):
            fill(trunk.patch(view, angle, angle + 0.34, 0.45, 0.95), shade(appearance.bag_colour, 0.8))
    _head(fill, appearance, lift, view)
    if appearance.hair_style == "long" and facing <= 0:
        fill(mane.patch(view, 0, FULL), appearance.hair)
    if appearance.bag == "backpack" and facing <= 0:
        _bag(fill, pack, view, appearance.bag_colour)
    for parts in before:
        _capsules(fill, parts, view, 1.0)


def _surface(appearance: PersonAppearance, lift: float, rows: list[tuple[float, float, float]]) -> Surface:
    table = np.array(rows) * appearance.height
    table[:, 1:] *= appearance.build
    table[:, 0] += lift
    return Surface.of(table)


def _trunk(appearance: PersonAppearance, pose: Pose, lift: float) -> Surface:
    rows = [(0.62, 0.078, 0.06), (0.73, 0.098, 0.068), (0.79, 0.112, 0.06), (0.825, 0.102, 0.05), (0.85, 0.045, 0.035)]
    hem: list[tuple[float, float, float]]
    if appearance.outer == "coat":
        hem = [(0.3, 0.112, 0.078 + 0.035 * pose.stride), (0.5, 0.1, 0.074)]
    elif appearance.outer == "none":
        hem = [(0.49, 0.088, 0.066)]
    else:
        hem = [(0.46, 0.096, 0.074), (0.5, 0.095, 0.072)]
    return _surface(appearance, lift, hem + rows)


def _clothe(fill: Fill, appearance: PersonAppearance, trunk: Surface, view: View) -> None:
    fill(trunk.patch(view, 0, FULL), appearance.shell)
    if appearance.outer in ("none", "open_jacket"):
        start, end = (0.0, FULL) if appearance.outer == "none" else (FRONT - 0.55, FRONT + 0.55)
        if appearance.outer == "open_jacket":
            fill(trunk.patch(view, start, end), appearance.top)
        _pattern(fill, appearance, trunk, view, start, end)
    else:
        fill(trunk.patch(view, FRONT - 0.05, FRONT + 0.05), shade(appearance.outer_colour, 0.6))
        fill(trunk.patch(view, FRONT - 0.3, FRONT + 0.3, 0.88, 1.0), appearance.top)
        fill(trunk.patch(view, 0, FULL, 0.0, 0.1), shade(appearance.outer_colour, 0.82))


def _pattern(fill: Fill, appearance: PersonAppearance, trunk: Surface, view: View, start: float, end: float) -> None:
    accent = appearance.accent
    if appearance.pattern in ("stripes", "checks"):
        for row in range(1, 9, 2):
            fill(trunk.patch(view, start, end, row / 10, (row + 1) / 10), accent)
    if appearance.pattern in ("bars", "checks"):
        tone = accent if appearance.pattern == "bars" else shade(accent, 0.7)
        for angle in np.arange(0.15, FULL, 0.62):
            if start <= angle and angle + 0.24 <= end:
                fill(trunk.patch(view, float(angle), float(angle) + 0.24, 0.0, 0.9), tone)
    elif appearance.pattern == "logo":
        fill(trunk.patch(view, FRONT - 0.5, FRONT + 0.5, 0.5, 0.75), accent)
        if appearance.outer == "none":
            fill(trunk.patch(view, 3 * FRONT - 0.75, 3 * FRONT + 0.75, 0.6, 0.8), accent)
    elif appearance.pattern == "block":
        fill(trunk.patch(view, start, end, 0.0, 0.5), accent)


def _bag(fill: Fill, bag: Surface, view: View, colour: Colour) -> None:
    fill(bag.patch(view, 0, FULL), colour)
    fill(bag.patch(view, 0, FULL, 0.1, 0.4), shade(colour, 0.8))


def _head(fill: Fill, appearance: PersonAppearance, lift: float, view: View) -> None:
    height = appearance.height
    neck = Surface.of(np.array([(0.82, 0.034, 0.034), (0.89, 0.03, 0.032)]) * height + (lift, 0, 0), steps=3)
    fill(neck.patch(view, 0, FULL), shade(appearance.skin, 0.85))
    latitude = np.linspace(-FRONT, FRONT, 13)
    ring = np.cos(latitude) ** 0.85
    up = (0.93 + 0.068 * np.sin(latitude)) * height + lift
    centre = np.tile([0.0, 0.012 * height], (13, 1))
    skull = Surface(up, 0.047 * height * ring, 0.056 * height * ring, centre)
    fill(skull.patch(view, 0, FULL), appearance.skin)
    if appearance.hair_style != "bald":
        crown = Surface(up + 0.004 * height, skull.across * 1.09, skull.along * 1.09, centre - (0, 0.004 * height))
        fill(crown.patch(view, FRONT + 1.15, FRONT + FULL - 1.15, 0.3, 0.75), appearance.hair)
        fill(crown.patch(view, 0, FULL, 0.7, 1.0), appearance.hair)
    for side in (-0.42, 0.42):
        fill(skull.patch(view, FRONT + side - 0.13, FRONT + side + 0.13, 0.5, 0.58), (35, 35, 45))
    fill(skull.patch(view, FRONT - 0.24, FRONT + 0.24, 0.24, 0.3), shade(appearance.skin, 0.66))
    if appearance.hat != "none":
        hat = Surface(up + 0.008 * height, skull.across * 1.15, skull.along * 1.13, centre)
        fill(hat.patch(view, 0, FULL, 0.66 if appearance.hat == "cap" else 0.6, 1.0), appearance.hat_colour)
        if appearance.hat == "cap":
            brim = np.array([[0.0, 0.958, 0.03], [0.0, 0.95, 0.105]]) * height + (0, lift, 0)
            ends = view.project(brim)
            radius = np.array([0.028, 0.014]) * height
            fill(capsules(ends[:1], ends[1:], radius[:1], radius[1:])[0], shade(appearance.hat_colour, 0.75))
        else:
            fill(hat.patch(view, 0, FULL, 0.6, 0.68), shade(appearance.hat_colour, 0.75))


Parts = list[tuple[Array, Array, float, float, Colour]]


def _arms(appearance: PersonAppearance, limbs: Limbs, view: View) -> list[tuple[float, Parts]]:
    """Return both arms, the farther one first: depth toward the camera in metres, and (start, end, radii, colour)."""
    size = appearance.height * (0.75 + 0.25 * appearance.build)
    covered = appearance.long_sleeves or appearance.outer != "none"
    thick = 1.16 if appearance.outer != "none" else 1.0
    arms: list[tuple[float, Parts]] = []
    for side in (0, 1):
        shoulder, elbow = limbs.shoulder[side], limbs.elbow[side]
        wrist, hand = limbs.wrist[side], limbs.hand[side]
        lower = shade(appearance.sleeve, 0.94) if covered else appearance.skin
        parts: Parts = [
            (wrist, hand, 0.017 * size, 0.02 * size, appearance.skin),
            (elbow, wrist, 0.025 * thick * size, 0.019 * thick * size, lower),
        ]
        if not covered:
            parts.append((shoulder, elbow, 0.028 * size, 0.024 * size, appearance.skin))
            elbow = shoulder + 0.62 * (elbow - shoulder)
        parts.append((shoulder, elbow, 0.032 * thick * size, 0.027 * thick * size, shade(appearance.sleeve, 0.92)))
        if appearance.bag == "tote" and side == 1:
            drop = np.array([0.0, 0.04, 0.0]) * appearance.height
            parts.insert(0, (hand - drop, hand - 3.6 * drop, 0.05 * size, 0.062 * size, appearance.bag_colour))
        arms.append((float(view.depth(shoulder[None])[0] + 0.3 * view.depth(hand[None])[0]), parts))
    return sorted(arms, key=lambda arm: arm[0])


def _legs(appearance: PersonAppearance, limbs: Limbs, view: View) -> list[tuple[float, Parts]]:
    """Return both legs, the farther one first, as `_arms` does."""
    size = appearance.height * (0.6 + 0.4 * appearance.build)
    bare = appearance.bottom in ("shorts", "skirt", "long_skirt")
    legs: list[tuple[float, Parts]] = []
    for side in (0, 1):
        hip, knee, ankle, toe = limbs.hip[side], limbs.knee[side], limbs.ankle[side], limbs.toe[side]
        shank = appearance.skin if bare else appearance.bottom_colour
        parts: Parts = [
            (ankle, toe, 0.026 * size, 0.018 * size, appearance.shoes),
            (knee, ankle, 0.032 * size, 0.022 * size if bare else 0.027 * size, shank),
            (hip, knee, 0.05 * size, 0.036 * size, appearance.bottom_colour),
        ]
        legs.append((float(view.depth(ankle[None])[0] + view.depth(hip[None])[0]), parts))
    return sorted(legs, key=lambda leg: leg[0])


def _capsules(fill: Fill, parts: Parts, view: View, light: float) -> None:
    starts = view.project(np.array([part[0] for part in parts]))
    ends = view.project(np.array([part[1] for part in parts]))
    outlines = capsules(starts, ends, np.array([part[2] for part in parts]), np.array([part[3] for part in parts]))
    for outline, part in zip(outlines, parts, strict=True):
        fill(outline, shade(part[4], light))

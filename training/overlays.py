"""Photographic material for rendered pictures: people, objects and backdrops from photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.lab.scenes import Cutout
from motserve.types import Image

Cut: TypeAlias = NDArray[np.uint8]
"""A cutout of a photograph: `(h, w, 4)` uint8, BGR premultiplied by alpha, and alpha."""

_STRETCH: Final = 0.08
"""Standard deviation of the logarithm of the random stretch of a person's width."""

_SHORTENED: Final = (0.5, 0.95)
"""Range of the height of a person from above, as a share of the height from the side."""

_NARROWED: Final = (0.5, 0.9)
"""Range of the width at the feet, as a share of that at the head."""

_LEAST_METRES, _MOST_METRES = 1.5, 1.95
_LEAST_THING, _MOST_THING = 0.2, 2.2
_LEAST_PART: Final = 0.25
"""Smallest part of a photograph used as a backdrop, as a share of its sides."""


@dataclass(frozen=True, slots=True)
class Overlays:
    """Photographic material to draw from.

    Attributes:
        people: Views of each person.
        things: Cutouts of objects, in groups that are drawn equally often.
        backdrops: Pictures without people, in groups that are drawn equally often.
    """

    people: Sequence[Sequence[Cut]] = ()
    things: Sequence[Sequence[Cut]] = ()
    backdrops: Sequence[Sequence[Image]] = ()


def draw_person(overlays: Overlays, recoloured: float, rng: np.random.Generator, foreshortened: float = 0.0) -> Cutout:
    """Draw a person and a view, perhaps recolour the clothes, and perhaps show the person from above.

    Args:
        overlays: The material; it must have people.
        recoloured: Share of people whose clothes get other colours.
        rng: Random generator.
        foreshortened: Share of people as a camera high above them shows them.
    """
    view = _one_of(overlays.people, rng)
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    if rng.random() < recoloured:
        view = dye_clothes(view, draw_dye(rng))
    width = max(4, round(view.shape[1] * float(np.exp(rng.normal(0, _STRETCH)))))
    view = np.asarray(cv2.resize(view, (width, view.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    share = 1.0
    if foreshortened and rng.random() < foreshortened:
        share = rng.uniform(*_SHORTENED)
        view = foreshorten(view, share, rng.uniform(*_NARROWED))
    return Cutout(share * rng.uniform(_LEAST_METRES, _MOST_METRES), (_jittered(view, rng),))


def foreshorten(view: Cut, height: float, feet: float) -> Cut:
    """Return a person as a camera high above shows one: lower, and narrower towards the feet, which are farther away.

    Args:
        view: The cutout.
        height: Height as a share of that of the cutout.
        feet: Width at the feet as a share of that at the head.
    """
    tall, wide = view.shape[:2]
    low = max(4, round(tall * height))
    inset = wide * (1 - feet) / 2
    corners = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32)
    places = np.array([[0, 0], [wide, 0], [wide - inset, low], [inset, low]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, places)
    return np.asarray(cv2.warpPerspective(view, matrix, (wide, low), flags=cv2.INTER_AREA), np.uint8)


def dress_person(overlays: Overlays, rng: np.random.Generator) -> Cutout:
    """Draw a person with all views and recolour the clothes, equally in each view."""
    views = overlays.people[int(rng.integers(len(overlays.people)))]
    dyes = draw_dye(rng)
    while dyes.upper is None and dyes.lower is None:  # the person would be unchanged
        dyes = draw_dye(rng)
    mirrored = rng.random() < 0.5
    dressed = (dye_clothes(view, dyes) for view in views)
    recoloured = tuple(np.ascontiguousarray(view[:, ::-1]) if mirrored else view for view in dressed)
    return Cutout(rng.uniform(_LEAST_METRES, _MOST_METRES), recoloured)


def draw_thing(overlays: Overlays, rng: np.random.Generator) -> Cutout:
    """Draw an object, rotated and mirrored at random."""
    thing = np.rot90(_one_of(overlays.things, rng), rng.choice(4, p=(0.7, 0.1, 0.1, 0.1)))
    if rng.random() < 0.5:
        thing = thing[:, ::-1]
    return Cutout(rng.uniform(_LEAST_THING, _MOST_THING), (_jittered(np.ascontiguousarray(thing), rng),))


def draw_backdrop(overlays: Overlays, width: int, height: int, rng: np.random.Generator) -> Image:
    """Draw a part of a photograph with a given aspect ratio, mirrored at random."""
    picture = _one_of(overlays.backdrops, rng)
    rows, columns = picture.shape[:2]
    share = rng.uniform(_LEAST_PART, 1) * min(columns / width, rows / height)
    wide, tall = max(8, int(share * width)), max(8, int(share * height))
    x, y = rng.integers(0, max(1, columns - wide + 1)), rng.integers(0, max(1, rows - tall + 1))
    part = picture[y : y + tall, x : x + wide]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def _one_of(groups: Sequence[Sequence[NDArray[np.uint8]]], rng: np.random.Generator) -> NDArray[np.uint8]:
    group = groups[int(rng.integers(len(groups)))]
    return group[int(rng.integers(len(group)))]


@dataclass(frozen=True, slots=True)
class Dye:
    """Recolouring of one part of the clothes.

    Attributes:
        hue: The new hue, or its rotation, in units of two degrees (OpenCV).
        new: Whether the hue is replaced and not rotated; grey and black have no hue to rotate.
        saturation: Factor and summand, on a scale of 255.
        value: Factor and summand, on a scale of 255.
    """

    hue: float
    new: bool
    saturation: tuple[float, float]
    value: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dyes:
    """Recolouring of a person's clothes; None leaves a part unchanged.

    Attributes:
        waist: Border of both parts, as a share of the height from the top.
        upper: Above the waist.
        lower: Below.
    """

    waist: float
    upper: Dye | None
    lower: Dye | None


def draw_dye(rng: np.random.Generator) -> Dyes:
    """Draw independent colours for the upper and the lower part."""

    def one() -> Dye | None:
        if rng.random() < 0.2:
            return None
        value = rng.uniform(0.5, 1.6), rng.uniform(-40, 90)
        if rng.random() < 0.5:
            return Dye(rng.uniform(0, 180), True, (0.3, rng.uniform(0, 200)), value)
        return Dye(rng.uniform(-90, 90), False, (rng.uniform(0.4, 1.6), 0), value)

    return Dyes(rng.uniform(0.46, 0.56), one(), one())


def dye_clothes(person: Cut, dyes: Dyes) -> Cut:
    """Recolour the upper and the lower part of the clothes; head and feet are unchanged.

    The borders of the parts are those of average body proportions.
    """
    at = np.linspace(0, 1, len(person), dtype=np.float32)[:, None]
    above = 1 - _ramp(at, dyes.waist - 0.02, dyes.waist + 0.02)
    parts = (_ramp(at, 0.14, 0.18) * above, (1 - above) * (1 - _ramp(at, 0.9, 0.95)))
    changed = person.astype(np.float32)
    for part, dye in zip(parts, (dyes.upper, dyes.lower), strict=True):
        if dye is not None:
            changed += part[..., None] * (_dyed(person, dye) - changed)
    return np.asarray(np.clip(changed, 0, person[..., 3:]).round(), np.uint8)


def _dyed(person: Cut, dye: Dye) -> NDArray[np.float32]:
    """Return the whole person recoloured."""
    colours = cv2.cvtColor(np.ascontiguousarray(person[..., :3]), cv2.COLOR_BGR2HSV).astype(np.float32)
    coverage = person[..., 3].astype(np.float32)
    hue, saturation, value = (colours[..., channel] for channel in range(3))
    hue[:] = dye.hue if dye.new else (hue + dye.hue) % 180
    saturation[:] = dye.saturation[0] * saturation + dye.saturation[1]
    value[:] = dye.value[0] * value + dye.value[1] * coverage / 255
    limits = np.stack([np.full_like(coverage, 179), np.full_like(coverage, 255), coverage], axis=-1)
    bounded = np.clip(colours, 0, limits).astype(np.uint8)
    return np.dstack([cv2.cvtColor(bounded, cv2.COLOR_HSV2BGR).astype(np.float32), coverage])


def _jittered(cut: Cut, rng: np.random.Generator) -> Cut:
    """Change exposure and tint at random."""
    gain = np.exp(rng.normal(0, 0.22)) * np.exp(rng.normal(0, 0.05, 3))
    jittered = cut.astype(np.float32)
    jittered[..., :3] = jittered[..., :3] * gain + rng.normal(0, 8) * (jittered[..., 3:] / 255)
    return np.asarray(np.clip(jittered, 0, jittered[..., 3:]).round(), np.uint8)


def _ramp(at: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    return np.asarray(np.clip((at - low) / (high - low), 0, 1), np.float32)

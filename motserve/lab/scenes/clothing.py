"""Appearance of rendered people: body, clothes, hair and bags."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np

Colour: TypeAlias = tuple[float, float, float]
"""BGR, each in [0, 255]."""

Pattern: TypeAlias = Literal["plain", "stripes", "bars", "checks", "logo", "block"]
Outer: TypeAlias = Literal["none", "jacket", "open_jacket", "coat"]
Bottom: TypeAlias = Literal["trousers", "shorts", "skirt", "long_skirt"]
Hair: TypeAlias = Literal["short", "long", "bald"]
Hat: TypeAlias = Literal["none", "cap", "beanie"]
Bag: TypeAlias = Literal["none", "backpack", "shoulder", "tote"]

Name = TypeVar("Name", bound=str)

SKINS: tuple[Colour, ...] = (
    (188, 208, 240),
    (160, 185, 225),
    (125, 160, 205),
    (95, 130, 180),
    (60, 90, 140),
    (42, 62, 95),
)
HAIRS: tuple[Colour, ...] = ((28, 28, 30), (38, 50, 70), (50, 80, 120), (95, 150, 195), (150, 150, 155), (45, 70, 140))
NEUTRALS: tuple[Colour, ...] = (
    (34, 32, 32),
    (60, 56, 54),
    (112, 110, 108),
    (165, 165, 168),
    (228, 230, 232),
    (86, 58, 36),
    (125, 92, 62),
    (168, 138, 104),
    (120, 160, 185),
    (165, 195, 215),
    (52, 72, 100),
    (70, 84, 78),
)


@dataclass(frozen=True, slots=True)
class PersonAppearance:
    """The constant appearance of one person. Colours are BGR in [0, 255], lengths in metres."""

    height: float
    build: float
    skin: Colour
    hair: Colour
    hair_style: Hair
    hat: Hat
    hat_colour: Colour
    top: Colour
    accent: Colour
    pattern: Pattern
    long_sleeves: bool
    outer: Outer
    outer_colour: Colour
    bottom: Bottom
    bottom_colour: Colour
    shoes: Colour
    bag: Bag
    bag_colour: Colour

    @property
    def sleeve(self) -> Colour:
        """Colour of the sleeves."""
        return self.top if self.outer == "none" else self.outer_colour

    @property
    def shell(self) -> Colour:
        """Colour that covers most of the upper body."""
        return self.sleeve


def sample_appearance(rng: np.random.Generator) -> PersonAppearance:
    """Draw a person at random."""
    outer: Outer = _pick(rng, ("none", "jacket", "open_jacket", "coat"), (0.5, 0.17, 0.18, 0.15))
    bottom: Bottom = _pick(rng, ("trousers", "shorts", "skirt", "long_skirt"), (0.68, 0.12, 0.12, 0.08))
    top = _garment(rng)
    return PersonAppearance(
        height=float(np.clip(rng.normal(1.7, 0.09), 1.45, 1.95)),
        build=float(rng.uniform(0.86, 1.25)),
        skin=_vary(rng, SKINS[rng.integers(len(SKINS))]),
        hair=_vary(rng, HAIRS[rng.integers(len(HAIRS))]),
        hair_style=_pick(rng, ("short", "long", "bald"), (0.58, 0.36, 0.06)),
        hat=_pick(rng, ("none", "cap", "beanie"), (0.76, 0.13, 0.11)),
        hat_colour=_garment(rng),
        top=top,
        accent=_contrast(rng, top),
        pattern=_pick(rng, ("plain", "stripes", "bars", "checks", "logo", "block"), (0.36, 0.18, 0.1, 0.1, 0.14, 0.12)),
        long_sleeves=bool(rng.random() < 0.5),
        outer=outer,
        outer_colour=_contrast(rng, top),
        bottom=bottom,
        bottom_colour=_garment(rng, neutral=0.72),
        shoes=_garment(rng, neutral=0.75),
        bag=_pick(rng, ("none", "backpack", "shoulder", "tote"), (0.48, 0.22, 0.18, 0.12)),
        bag_colour=_garment(rng),
    )


def sample_cast(rng: np.random.Generator, people: int, candidates: int = 6) -> list[PersonAppearance]:
    """Draw people with distinct appearances: each is the most distinct of a few candidates.

    Args:
        rng: Source of randomness.
        people: Number of people.
        candidates: Random candidates per person; more candidates make the people more distinct.
    """
    cast: list[PersonAppearance] = []
    for _ in range(people):
        drawn = [sample_appearance(rng) for _ in range(candidates)]
        cast.append(
            max(drawn, key=lambda appearance: min((_difference(appearance, other) for other in cast), default=0.0))
        )
    return cast


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor below 1) or lighten a colour."""
    blue, green, red = (min(255.0, channel * factor) for channel in colour)
    return blue, green, red


def sample_hue(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """Draw a colour of any hue with saturation and value, each in [0, 1], from the ranges given."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), min(1.0, rng.uniform(*value)))
    return blue * 255, green * 255, red * 255


def _difference(first: PersonAppearance, second: PersonAppearance) -> float:
    clothes = np.subtract((first.shell, first.bottom_colour), (second.shell, second.bottom_colour))
    return float(np.linalg.norm(clothes, axis=1) @ (1.0, 0.6))


def _garment(rng: np.random.Generator, neutral: float = 0.38) -> Colour:
    if rng.random() < neutral:
        return _vary(rng, NEUTRALS[rng.integers(len(NEUTRALS))])
    return sample_hue(rng, (0.3, 0.72), (0.3, 0.85))


def _contrast(rng: np.random.Generator, colour: Colour) -> Colour:
    drawn = [_garment(rng) for _ in range(3)]
    return max(drawn, key=lambda other: float(np.linalg.norm(np.subtract(colour, other))))


def _vary(rng: np.random.Generator, colour: Colour) -> Colour:
    blue, green, red = np.clip(np.array(colour) * rng.uniform(0.88, 1.1) + rng.normal(0, 4, 3), 8, 245)
    return float(blue), float(green), float(red)


def _pick(rng: np.random.Generator, names: tuple[Name, ...], weights: tuple[float, ...]) -> Name:
    return names[int(rng.choice(len(names), p=np.array(weights) / sum(weights)))]

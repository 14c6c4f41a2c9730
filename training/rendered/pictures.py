"""Single rendered pictures for training, with random backdrops, light, people and lens effects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from motserve.lab.scenes import Cutout, Placement, SceneConfig, Shot, Stage
from motserve.lab.scenes.body import Pose
from motserve.lab.scenes.clothing import PersonAppearance, sample_appearance, sample_hue
from motserve.types import Image
from training.overlays import Overlays, draw_backdrop, draw_person, draw_thing
from training.rendered.config import PictureConfig
from training.rendered.lens import film

NOTHING = Overlays()

SHAPES = ((1.0, 0.5625), (1.0, 0.75), (1.0, 1.0), (0.75, 1.0))
"""Width and height of the pictures as multiples of the longer side."""


def pictures(
    config: PictureConfig,
    seed: int,
    count: int,
    cast: Sequence[PersonAppearance | Cutout] = (),
    overlays: Overlays = NOTHING,
) -> Iterator[tuple[Shot, list[int]]]:
    """Render pictures of people who stand or walk in front of random backdrops.

    Args:
        config: Content of the pictures.
        seed: Seed of all random numbers.
        count: Number of pictures.
        cast: People to draw from; if empty, every picture has new people.
        overlays: Photographic material, used with the shares in `config`.

    Yields:
        The picture, and for each person in it the row in the cast (for new people, a running number).
    """
    stage: Stage | None = None
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        if stage is None or index % config.per_backdrop == 0:
            stage = _stage(config, overlays, rng)
        people = 0 if rng.random() < config.empty else _people_count(config, rng)
        if cast:
            rows = rng.permutation(len(cast))[:people].tolist()
            figures: list[PersonAppearance | Cutout] = [cast[row] for row in rows]
        else:
            rows = list(range(people))
            figures = [_random_person(config, overlays, rng) for _ in rows]
        if overlays.things and config.max_things:
            figures += [draw_thing(overlays, rng) for _ in range(int(rng.integers(config.max_things + 1)))]
        shot = stage.shoot(_random_placements(stage, figures, rng), stage.shake.at(rng.uniform(0, 1e4)), index)
        yield film(Shot(shot.image, shot.boxes[:people], shot.visibility[:people]), config, rng), rows


def _random_person(config: PictureConfig, overlays: Overlays, rng: np.random.Generator) -> PersonAppearance | Cutout:
    if overlays.people and rng.random() < config.photographed:
        return draw_person(overlays, config.recoloured, rng, config.foreshortened)
    return sample_appearance(rng)


def _people_count(config: PictureConfig, rng: np.random.Generator) -> int:
    """Draw a number of people; few are more common than many."""
    return 1 + int(config.max_people * rng.random() ** 1.6)


def _stage(config: PictureConfig, overlays: Overlays, rng: np.random.Generator) -> Stage:
    wide, tall = SHAPES[rng.integers(len(SHAPES))]
    least, most = math.log(config.min_height), math.log(config.max_height)
    far, near = sorted(np.exp(rng.uniform(least, most, 2)))
    scene = SceneConfig(
        seed=int(rng.integers(1 << 31)),
        width=round(wide * config.longer_side),
        height=round(tall * config.longer_side),
        far_height=far,
        near_height=max(near, 1.15 * far),
        pillars=int(rng.choice(3, p=(0.55, 0.35, 0.1))),
        furniture=int(rng.integers(0, 5)),
        shake=0.02,
        shake_degrees=3.0,
        noise=float(rng.uniform(0, 3) if rng.random() < 0.7 else rng.uniform(3, 14)),
        exposure=float(rng.uniform(0.5, 1.35)),
    )
    if overlays.backdrops and rng.random() < config.photographed_backdrops:
        return Stage(scene, draw_backdrop(overlays, scene.width, scene.height, rng))
    clutter = _clutter(scene, rng) if rng.random() < config.clutter else None
    return Stage(scene, clutter)


def _clutter(scene: SceneConfig, rng: np.random.Generator) -> Image:
    """Paint random shapes as a backdrop, so that the network does not learn the rendered scene instead of people."""
    size = (scene.height, scene.width)
    coarse = rng.uniform(30, 225, (int(rng.integers(2, 7)), int(rng.integers(2, 7)), 3)).astype(np.float32)
    picture = np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 40))):
        colour = sample_hue(rng, (0.0, 0.8), (0.1, 0.95))
        x, y = (int(value) for value in rng.uniform((0, 0), size[::-1]))
        w, h = (int(value) for value in np.exp(rng.uniform(1.4, 5.0, 2)))
        match rng.integers(4):
            case 0:
                cv2.rectangle(picture, (x, y), (x + w, y + h), colour, cv2.FILLED)
            case 1:
                cv2.ellipse(picture, (x, y), (w // 2, h // 2), float(rng.uniform(0, 180)), 0, 360, colour, cv2.FILLED)
            case 2:
                cv2.line(picture, (x, y), (x + w, y - h), colour, int(rng.integers(1, 14)), cv2.LINE_AA)
            case _:
                corners = (x, y) + rng.uniform(-0.5, 0.5, (4, 2)) * (w, h)
                cv2.fillPoly(picture, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    return picture


def _random_placements(
    stage: Stage, figures: Sequence[PersonAppearance | Cutout], rng: np.random.Generator
) -> list[Placement]:
    camera = stage.camera
    placements: list[Placement] = []
    for figure in figures:
        # Uniform in 1/z, which is uniform over the rows of the picture.
        z = 1 / rng.uniform(1 / camera.far, 1 / camera.near)
        x = rng.uniform(-1, 1) * (camera.half_width(z) + 0.3)
        if placements and rng.random() < 0.25:
            neighbour = placements[rng.integers(len(placements))]
            z = float(np.clip(neighbour.z + rng.uniform(-0.6, 0.6), camera.near, camera.far))
            x = neighbour.x + rng.normal(0, 0.4)
        stride = 0.0 if rng.random() < 0.25 else rng.uniform(0.6, 1.15)
        placements.append(
            Placement(figure, x, z, Pose(rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi), stride))
        )
    return placements

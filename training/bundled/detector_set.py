"""Training pictures of the bundled detector in YOLO layout: windows of footage, and people on other backdrops."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from motserve.lab.datasets.yolo import data_yaml
from motserve.lab.evaluation.reid_data import read_image
from motserve.lab.scenes import Shot
from motserve.types import Image
from training.bundled.backdrops import Pictures
from training.bundled.config import MaterialConfig
from training.bundled.material import Material, read_cut
from training.bundled.windows import cut_window
from training.color_jitter import jitter_colors
from training.dir_cache import make_once
from training.overlays import Overlays
from training.rendered.command import SEED_STEP, write_part
from training.rendered.pictures import pictures

logger = logging.getLogger("motserve.training")

Backdrops: TypeAlias = list[Image]
"""Pictures of one folder or place."""

_JITTERED_SHARE: Final = 0.6  # share of the composed pictures

_PARTS: Final = 200
"""Number of parts that the kinds of backdrops share."""


def write_set(
    settings: MaterialConfig,
    scenes: Mapping[str, Material],
    pictures: Pictures,
    folder: Path,
    photographs: Mapping[str, Material] = MappingProxyType({}),
) -> Path:
    """Write training pictures, and validation pictures of another seed; output of the same settings is reused.

    Args:
        settings: Number and content of the pictures.
        scenes: Footage by name.
        pictures: Backdrops and things.
        folder: Output folder; its content is replaced.
        photographs: Photographs by name of their source.

    Returns:
        The `data.yaml` of the data set.
    """
    stamp = json.dumps(
        [settings.model_dump(mode="json", exclude={"embedder", "base", "shift"}), sorted([*scenes, *photographs])],
        sort_keys=True,
    )
    data = folder / "data.yaml"
    footage = list(scenes.values())

    def write() -> None:
        overlays = read_overlays(settings, footage, pictures, list(photographs.values()))
        counts = {"train": settings.detector.train_pictures, "val": settings.detector.validation_pictures}
        for part, count in counts.items():
            windows = round(settings.detector.windows * count)
            seed = 2 * settings.seed + SEED_STEP[part]
            cut, composed = (
                _windows(settings, footage, list(photographs.values()), seed, windows),
                _composed(settings, overlays, seed, count - windows),
            )
            write_part(
                folder,
                part,
                chain(
                    ((shot, settings.windows.min_inside) for shot in cut),
                    ((shot, settings.detector.min_visibility) for shot in composed),
                ),
            )
            logger.info("pictures written", extra={"folder": str(folder), "part": part, "pictures": count})
        data.write_bytes(data_yaml(("train", "val")))

    make_once(folder, stamp, write)
    return data


def _windows(
    settings: MaterialConfig, scenes: Sequence[Material], photographs: Sequence[Material], seed: int, count: int
) -> Iterator[Shot]:
    """Cut windows out of frames and photographs, in order of the files, so that each is decoded once."""
    rng = np.random.default_rng([seed, 0])
    of_photographs = round(settings.detector.photographs * count) if photographs else 0
    drawn = rng.integers(len(scenes), size=count - of_photographs).tolist()
    chosen = [(scenes[scene], int(rng.integers(len(scenes[scene].frames)))) for scene in drawn]
    chosen += _drawn_photographs(photographs, settings.detector.peopled, of_photographs, rng)
    held: Path | None = None
    for index, (material, row) in enumerate(sorted(chosen, key=lambda one: one[0].frames[one[1]])):
        if held != material.frames[row]:
            held = material.frames[row]
            image = read_image(held)
        own = np.random.default_rng([seed, 1, index])
        yield cut_window(image, material.labels[row], settings.windows, settings.detector.pictures, own)


def _drawn_photographs(
    photographs: Sequence[Material], peopled: float, count: int, rng: np.random.Generator
) -> list[tuple[Material, int]]:
    """Draw photographs, all equally often, except that a share of them has people."""
    everything = [(source, row) for source in photographs for row in range(len(source.frames))]
    with_people = [(source, row) for source, row in everything if len(source.labels[row].boxes)]
    groups = [group for group in (with_people, everything) if group]
    return [
        (group := groups[int(len(groups) > 1 and rng.random() >= peopled)])[int(rng.integers(len(group)))]
        for _ in range(count)
    ]


def _composed(settings: MaterialConfig, overlays: Overlays, seed: int, count: int) -> Iterator[Shot]:
    for index, (shot, _) in enumerate(pictures(settings.detector.pictures, seed, count, overlays=overlays)):
        rng = np.random.default_rng([seed, 2, index])
        image = jitter_colors(shot.image, rng) if rng.random() < _JITTERED_SHARE else shot.image
        yield Shot(image, shot.boxes, shot.visibility)


def read_overlays(
    settings: MaterialConfig, scenes: Sequence[Material], pictures: Pictures, photographs: Sequence[Material] = ()
) -> Overlays:
    """Read people, things and backdrops; settings give the share of each kind of backdrop."""
    people = [views for source in (*scenes, *photographs) for views in source.views()]
    shares = settings.detector.scene_backdrops, settings.detector.photograph_backdrops
    backdrops = _shared_backdrops(
        [[scene.background()] for scene in scenes],
        [[read_image(file) for file in files] for source in photographs if (files := source.empty())],
        [[read_image(file) for file in group] for group in pictures.backdrops if group],
        shares,
    )
    return Overlays(people, [[read_cut(file) for file in group] for group in pictures.things if group], backdrops)


def _shared_backdrops(
    scenes: Sequence[Backdrops],
    photographs: Sequence[Backdrops],
    others: Sequence[Backdrops],
    shares: tuple[float, float],
) -> list[Backdrops]:
    """Repeat groups, which are drawn equally often, so that each kind has about its share."""
    kinds = [(scenes, shares[0]), (photographs, shares[1]), (others, 1 - sum(shares))]
    used = [(groups, share) for groups, share in kinds if groups and share > 0] or [(scenes, 1.0)]
    return [
        group for groups, share in used for group in groups for _ in range(max(1, round(_PARTS * share / len(groups))))
    ]

"""Training pictures of the bundled detector in YOLO layout: windows of footage, and people on other backdrops."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from motserve.lab.datasets.yolo import data_yaml
from motserve.lab.evaluation.reid_data import read_image
from motserve.lab.scenes import Shot
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

_JITTERED_SHARE: Final = 0.6  # share of the composed pictures


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
        [settings.model_dump(mode="json", exclude={"embedder"}), sorted([*scenes, *photographs])], sort_keys=True
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
    """Read people, things and backdrops; `scene_backdrops` sets the share of backgrounds of footage."""
    people = [views for source in (*scenes, *photographs) for views in source.views()]
    backdrops: list[list[NDArray[np.uint8]]] = [
        [read_image(file) for file in group] for group in pictures.backdrops if group
    ]
    own = [[scene.background()] for scene in scenes]
    share = settings.detector.scene_backdrops
    if backdrops and 0 < share < 1:  # groups are drawn equally often, so repeated groups are drawn more often
        repeats = round(share / (1 - share) * len(backdrops) / len(own) * 4)
        backdrops = 4 * backdrops + repeats * own
    elif share:
        backdrops = own
    return Overlays(people, [[read_cut(file) for file in group] for group in pictures.things if group], backdrops)

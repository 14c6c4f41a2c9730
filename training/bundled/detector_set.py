"""Pictures for the bundled detector, in the layout of YOLO: parts of footage, and people put into other places."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
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
from training.color_jitter import relit
from training.dir_cache import make_once
from training.overlays import Props
from training.rendered.command import SEED_STEP, write_part
from training.rendered.pictures import pictures

logger = logging.getLogger("motserve.training")

_RELIT: Final = 0.6  # share of the pictures that are put together


def write_set(settings: MaterialConfig, scenes: Mapping[str, Material], pictures: Pictures, folder: Path) -> Path:
    """Write pictures to learn from and others of another seed; those written with these settings before are kept.

    Args:
        settings: How many, and what they show.
        scenes: The footage to learn from, by name.
        pictures: Places and things.
        folder: Where it goes; anything in it is replaced.

    Returns:
        The `data.yaml` of the data set.
    """
    stamp = json.dumps([settings.model_dump(mode="json", exclude={"embedder"}), sorted(scenes)], sort_keys=True)
    data = folder / "data.yaml"
    footage = list(scenes.values())

    def write() -> None:
        props = read_props(settings, footage, pictures)
        wanted = {"train": settings.detector.train_pictures, "val": settings.detector.validation_pictures}
        for part, count in wanted.items():
            windows = round(settings.detector.windows * count)
            seed = 2 * settings.seed + SEED_STEP[part]
            cut, composed = (
                _windows(settings, footage, seed, windows),
                _composed(settings, props, seed, count - windows),
            )
            write_part(
                folder,
                part,
                chain(
                    ((shot, settings.windows.least_inside) for shot in cut),
                    ((shot, settings.detector.least_visibility) for shot in composed),
                ),
            )
            logger.info("pictures written", extra={"folder": str(folder), "part": part, "pictures": count})
        data.write_bytes(data_yaml(("train", "val")))

    make_once(folder, stamp, write)
    return data


def _windows(settings: MaterialConfig, scenes: Sequence[Material], seed: int, count: int) -> Iterator[Shot]:
    """Cut windows out of frames, as many of each scene; in order of the frames, each of which is decoded once."""
    rng = np.random.default_rng([seed, 0])
    drawn = rng.integers(len(scenes), size=count).tolist()
    chosen = sorted((scene, int(rng.integers(len(scenes[scene].frames)))) for scene in drawn)
    held: tuple[int, int] | None = None
    for index, (scene, frame) in enumerate(chosen):
        if held != (scene, frame):
            held = scene, frame
            image = read_image(scenes[scene].frames[frame])
        own = np.random.default_rng([seed, 1, index])
        labels = scenes[scene].labels[frame]
        yield cut_window(image, labels, settings.windows, settings.detector.pictures, own)


def _composed(settings: MaterialConfig, props: Props, seed: int, count: int) -> Iterator[Shot]:
    for index, (shot, _) in enumerate(pictures(settings.detector.pictures, seed, count, props=props)):
        rng = np.random.default_rng([seed, 2, index])
        image = relit(shot.image, rng) if rng.random() < _RELIT else shot.image
        yield Shot(image, shot.boxes, shot.visibility)


def read_props(settings: MaterialConfig, scenes: Sequence[Material], found: Pictures) -> Props:
    """Read people, things and places; footage without its people is as often a place as the settings say."""
    people = [views for scene in scenes for views in scene.views()]
    places: list[list[NDArray[np.uint8]]] = [[read_image(file) for file in group] for group in found.places if group]
    own = [[scene.place()] for scene in scenes]
    share = settings.detector.scene_places
    if places and 0 < share < 1:  # groups are drawn equally often, so one that shall come more often is there often
        repeats = round(share / (1 - share) * len(places) / len(own) * 4)
        places = 4 * places + repeats * own
    elif share:
        places = own
    return Props(people, [[read_cut(file) for file in group] for group in found.things if group], places)

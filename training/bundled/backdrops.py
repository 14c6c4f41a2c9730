"""Backdrops and objects from folders of pictures, without people and without duplicates."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.errors import NotFound
from motserve.files.folders import visible_files
from motserve.lab.scenes.cutout import premultiplied
from motserve.types import Image
from training.bundled.agreement import SIZE, people_detector
from training.bundled.config import MaterialConfig
from training.bundled.material import spread
from training.dir_cache import make_once
from training.overlays import Cut

logger = logging.getLogger("motserve.training")

_BACKDROPS: Final = "places"
_THINGS: Final = "things"
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")
_LEAST_SIDE: Final = 100  # pixels
_CONFIDENCE: Final = 0.1
_HASH_SIDE: Final = 8
_ALIKE: Final = 4
"""Largest number of differing bits, of 64, between hashes of duplicates."""

_MOST_SOLID: Final = 0.97
_LEAST_SOLID: Final = 0.03
"""Share of opaque pixels above which a picture is a backdrop, and below which it is unusable; others are things."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Picture files, grouped by source folder.

    Attributes:
        backdrops: Pictures without people.
        things: Pictures of objects with alpha, colours premultiplied.
    """

    backdrops: Sequence[Sequence[Path]]
    things: Sequence[Sequence[Path]]


def prepare_pictures(settings: MaterialConfig, teacher: Path, folder: Path) -> Pictures:
    """Collect backdrops, and things with a transparent background, from folders of pictures.

    The output of an earlier call with the same settings is reused.

    Args:
        settings: The folders, and size and number of the pictures.
        teacher: Weights of a detector; pictures in which it detects people are not used.
        folder: Output folder; its content is replaced.

    Raises:
        NotFound: A folder does not exist.
    """
    stamp = json.dumps([[str(path) for path in settings.pictures], settings.max_side, settings.max_pictures])

    def collect() -> None:
        is_empty = _emptiness_test(teacher)
        for number, source in enumerate(settings.pictures):
            _collect(source, settings, is_empty, folder / f"{number:02d}")

    make_once(folder, stamp, collect)
    groups = sorted(path for path in folder.iterdir() if path.is_dir())
    return Pictures([sorted((group / _BACKDROPS).iterdir()) for group in groups],
                    [sorted((group / _THINGS).iterdir()) for group in groups])  # fmt: skip


def _collect(source: Path, settings: MaterialConfig, is_empty: Callable[[Image], bool], folder: Path) -> None:
    """Collect the usable pictures of one folder, evenly spaced."""
    if not source.is_dir():
        raise NotFound(
            f"there is no folder of pictures {source}; `make pictures` downloads some, or remove it from `pictures`"
        )
    hashes: list[NDArray[np.bool_]] = []
    chosen: list[NDArray[np.uint8]] = []
    for file in visible_files(source, SUFFIXES, below=True):
        picture = read_picture(file, settings.max_side)
        if picture is None:
            continue
        own_hash = _hash(picture)
        if all(int((own_hash != other).sum()) > _ALIKE for other in hashes):
            hashes.append(own_hash)
            chosen.append(picture)
    for kind in (_BACKDROPS, _THINGS):
        (folder / kind).mkdir(parents=True)
    counts = Counter[str]()
    for number in spread(len(chosen), settings.max_pictures):
        picture = chosen[number]
        is_thing = picture.shape[2] == 4
        if is_empty(on_grey(picture) if is_thing else picture):
            kind = _THINGS if is_thing else _BACKDROPS
            cv2.imwrite(str(folder / kind / f"{number:05d}.png"), picture)
            counts[kind] += 1
    logger.info("pictures", extra={"folder": source.name, **counts, "of": len(chosen)})


def read_picture(file: Path, longer_side: int) -> NDArray[np.uint8] | None:
    """Read a picture, with alpha if it is a thing; None if it is unusable."""
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.dtype != np.uint8 or min(picture.shape[:2]) < _LEAST_SIDE:
        return None
    scale = longer_side / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if picture.shape[2] == 3:
        return np.asarray(picture, np.uint8)
    solid = float((picture[..., 3] >= 128).mean())
    if solid > _MOST_SOLID:
        return np.ascontiguousarray(picture[..., :3])
    if solid < _LEAST_SOLID:
        return None
    x, y, wide, tall = cv2.boundingRect(np.asarray(picture[..., 3] >= 128, np.uint8))
    thing = picture[y : y + tall, x : x + wide]
    return premultiplied(np.ascontiguousarray(thing[..., :3]), np.ascontiguousarray(thing[..., 3]))


def _hash(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the average hash: for each part, whether it is brighter than the mean."""
    small = cv2.resize(picture[..., :3].mean(axis=2).astype(np.float32), (_HASH_SIDE, _HASH_SIDE),
                       interpolation=cv2.INTER_AREA)  # fmt: skip
    return np.asarray(small > small.mean()).ravel()


def _emptiness_test(teacher: Path) -> Callable[[Image], bool]:
    detect = people_detector(teacher, SIZE, _CONFIDENCE)
    return lambda picture: not len(detect(picture))


def on_grey(thing: Cut) -> Image:
    """Return a picture with alpha on a grey background."""
    return np.asarray(thing[..., :3] + (255 - thing[..., 3:]) // 2, np.uint8)

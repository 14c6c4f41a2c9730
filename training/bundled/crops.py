"""Training crops of the bundled embedder in Market-1501 layout: people of footage and photographs, and rendered ones.

A person in recoloured clothes counts as another identity, because footage has too few identities to train on. People
of photographs, of whom there is one view, are shown on several backgrounds; they teach what different people are like.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np

from motserve.lab.evaluation.reid_data import read_image
from motserve.lab.scenes import Cutout
from motserve.lab.scenes.clothing import PersonAppearance, sample_appearance
from motserve.reid.crops import whole_pixels
from motserve.types import FloatArray, Image
from training.bundled.config import CropSetConfig, MaterialConfig
from training.bundled.material import Material, spread
from training.color_jitter import jitter_colors
from training.dir_cache import make_once
from training.overlays import Cut, Overlays, draw_person, dress_person
from training.rendered.pictures import pictures

logger = logging.getLogger("motserve.training")

_TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"
_QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 92]
_MANY: Final = 400
"""Maximum number of rendered pictures per view, if a person of a group never has enough crops."""


def write_crops(
    settings: MaterialConfig,
    scenes: Mapping[str, Material],
    overlays: Overlays,
    folder: Path,
    photographs: Mapping[str, Material] = MappingProxyType({}),
) -> Path:
    """Write training crops, and crops of other rendered people for validation.

    The output of an earlier call with the same settings is reused.

    Args:
        settings: Number and content of the crops.
        scenes: Footage, by name.
        overlays: Cutouts of people of footage, and backdrops.
        folder: Output folder; its content is replaced.
        photographs: Photographs by name; each person in them has one view.

    Returns:
        The folder.
    """
    values = settings.model_dump(mode="json", exclude={"detector", "base", "shift"})
    stamp = json.dumps([values, sorted([*scenes, *photographs])], sort_keys=True)

    def write() -> None:
        strangers = [views for source in photographs.values() for views in source.views()]
        _write_all(settings, scenes, overlays, strangers, folder)

    make_once(folder, stamp, write)
    return folder


def _write_all(
    settings: MaterialConfig,
    scenes: Mapping[str, Material],
    overlays: Overlays,
    strangers: Sequence[Sequence[Cut]],
    folder: Path,
) -> None:
    for part in (_TRAIN, _QUERY, _GALLERY):
        (folder / part).mkdir()
    crops, rng = settings.embedder, np.random.default_rng([settings.seed, 10])
    person = 1
    for camera, source in enumerate((source for source in settings.scenes if source.name in scenes), 1):
        person = _write_filmed(crops, scenes[source.name], source.same, camera, person, folder / _TRAIN)
    filmed = person - 1
    recoloured = [dress_person(overlays, rng) for _ in range(crops.recoloured)] if overlays.people else []
    chosen = rng.permutation(len(strangers))[: crops.photographed]
    photographed = [draw_person(Overlays(people=[strangers[row]]), 0, rng) for row in chosen]
    rendered = [sample_appearance(rng) for _ in range(crops.rendered)]
    cast: list[PersonAppearance | Cutout] = [*recoloured, *photographed, *rendered]
    mixed = [cast[row] for row in rng.permutation(len(cast))]
    for row, view, crop in _render_crops(crops, mixed, overlays, settings.seed * 2):
        _write(folder / _TRAIN, person + row, 1 + view % 6, view, crop)
    others = [sample_appearance(rng) for _ in range(crops.validation)]
    for row, view, crop in _render_crops(crops, others, overlays, settings.seed * 2 + 1):
        part = _QUERY if view < crops.views // 4 else _GALLERY
        _write(folder / part, person + len(cast) + row, 1 if part == _QUERY else 2, view, crop)
    counts = {"filmed": filmed, "recoloured": len(recoloured), "photographed": len(photographed)}
    logger.info("crops written", extra={"folder": str(folder), **counts, "rendered": crops.rendered})


def _write_filmed(
    settings: CropSetConfig, scene: Material, same: Sequence[Sequence[int]], camera: int, person: int, folder: Path
) -> int:
    """Write the people of footage, numbered from `person`; return the next number."""
    rng = np.random.default_rng([camera, 11])
    merged_id = {other: group[0] for group in same for other in group}
    observations: dict[int, list[tuple[int, FloatArray]]] = {}
    for frame, labels in enumerate(scene.labels):
        tall = labels.boxes[:, 3] - labels.boxes[:, 1] >= settings.min_height
        for row in np.flatnonzero(tall & (labels.visibility >= settings.min_visibility)):
            identity = int(labels.ids[row])
            observations.setdefault(merged_id.get(identity, identity), []).append((frame, labels.boxes[row]))
    chosen: dict[int, list[tuple[int, int, FloatArray]]] = {}
    for identity in sorted(observations):
        if len(observations[identity]) < settings.min_views:
            continue
        for view, at in enumerate(spread(len(observations[identity]), settings.filmed_views)):
            frame, box = observations[identity][at]
            chosen.setdefault(frame, []).append((person, view, box))
        person += 1
    for frame in sorted(chosen):
        image = read_image(scene.frames[frame])
        for number, view, box in chosen[frame]:
            crop = _cut(image, box, settings, rng)
            if crop is not None:
                _write(
                    folder,
                    number,
                    camera,
                    view,
                    jitter_colors(crop, rng) if rng.random() < settings.color_jitter else crop,
                )
    return person


def _render_crops(
    settings: CropSetConfig, cast: Sequence[PersonAppearance | Cutout], overlays: Overlays, seed: int
) -> Iterator[tuple[int, int, Image]]:
    """Render people in groups until each has enough crops; yield row, number of the view, and crop."""
    group = settings.pictures.max_people
    for start in range(0, len(cast), group):
        rng = np.random.default_rng([seed, start])
        members = cast[start : start + group]
        counts = np.zeros(len(members), np.int64)
        shots = pictures(settings.pictures, int(rng.integers(1 << 31)), _MANY * settings.views, members, overlays)
        for shot, rows in shots:
            image = jitter_colors(shot.image, rng) if rng.random() < settings.color_jitter else shot.image
            for index, row in enumerate(rows):
                if counts[row] == settings.views or shot.visibility[index] < settings.min_visibility:
                    continue
                crop = _cut(image, shot.boxes[index], settings, rng)
                if crop is not None:
                    yield start + row, int(counts[row]), crop
                    counts[row] += 1
            if (counts == settings.views).all():
                break


def _cut(image: Image, box: FloatArray, settings: CropSetConfig, rng: np.random.Generator) -> Image | None:
    """Cut a box out with random errors of its edges, as of a detector; None if too little is inside the picture."""
    size = np.tile(box[2:] - box[:2], 2)
    moved = np.asarray(box + size * rng.normal(0, settings.jitter, 4), np.float32)
    x1, y1, x2, y2 = whole_pixels(moved[None], *image.shape[:2])[0].tolist()
    if y2 - y1 < max(settings.min_height, 0.7 * size[1]) or x2 - x1 < 0.6 * size[0]:
        return None
    crop = image[y1:y2, x1:x2]
    return np.asarray(cv2.resize(crop, (settings.width, settings.height), interpolation=cv2.INTER_AREA), np.uint8)


def _write(folder: Path, person: int, camera: int, view: int, crop: Image) -> None:
    cv2.imwrite(str(folder / f"{person:04d}_c{camera}s1_{view:06d}_00.jpg"), crop, _QUALITY)

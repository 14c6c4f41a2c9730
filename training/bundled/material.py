"""Material of one scene on disk: its frames, its labels, the empty place and the people cut out of it."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from motserve.lab.evaluation.reid_data import read_image
from motserve.types import FloatArray, Image
from training.bundled.background import empty_place, unexplained
from training.bundled.config import CutConfig, LabelConfig, MaterialConfig, SceneSource
from training.bundled.cutting import cut_person
from training.bundled.footage import Labels, open_scene
from training.bundled.spread import spread
from training.dir_cache import make_once
from training.overlays import Cut

logger = logging.getLogger("motserve.training")

_PLATE: Final = "place.png"
_LABELS: Final = "labels.npz"
_QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 96]
_BORDER: Final = 3
"""Pixels between a person who is cut out and the border of the picture, behind which there may be more of them."""

_EMPTY: Final = 12
"""Of so many frames with people one without is kept as well."""

_PLATE_FRAMES: Final = 41
"""Frames that the empty place is the median of, at the most: memory, and more tell nothing new."""


@dataclass(frozen=True, slots=True)
class Material:
    """What there is of a scene.

    Attributes:
        folder: Where it lies.
        frames: Picture files of the frames to learn from.
        labels: Everybody in each of these frames.
        people: Files with the views of each person, by ID.
    """

    folder: Path
    frames: tuple[Path, ...]
    labels: tuple[Labels, ...]
    people: dict[int, tuple[Path, ...]]

    def place(self) -> Image:
        """Read the empty place."""
        return read_image(self.folder / _PLATE)

    def views(self) -> list[list[Cut]]:
        """Read the views of everybody who was cut out."""
        return [[read_cut(file) for file in files] for files in self.people.values()]


def prepare_scene(source: SceneSource, data: Path, settings: MaterialConfig, folder: Path) -> Material:
    """Take a scene apart; what was taken apart with these settings before is kept.

    Args:
        source: The scene.
        data: Folder that its path starts from.
        settings: How.
        folder: Where it goes; anything in it is replaced.

    Raises:
        MotserveError: A file is missing or malformed.
    """
    taken = source.model_dump(mode="json", include={"path", "every"})
    stamp = json.dumps([taken, settings.labels.model_dump(mode="json"), settings.cuts.model_dump(mode="json")])
    make_once(folder, stamp, lambda: _take_apart(source, data, settings, folder))
    return _read(folder)


def read_cut(file: Path) -> Cut:
    """Read a picture with coverage, its colours multiplied by it."""
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), np.uint8)


def _take_apart(source: SceneSource, data: Path, settings: MaterialConfig, folder: Path) -> None:
    for name in ("frames", "people"):
        (folder / name).mkdir()
    scene = open_scene(source, data, data / settings.teacher, settings.labels)
    frames = list(scene.frames(source.every))
    labels = [scene.labels[index] for index, _ in frames]
    moving = [np.vstack([one.boxes, one.others]) for one in labels]
    sample = range(0, len(frames), -(-len(frames) // _PLATE_FRAMES))
    plate = empty_place([frames[row][1] for row in sample], [moving[row] for row in sample])
    cv2.imwrite(str(folder / _PLATE), plate)
    usable = [
        row
        for row, (_, image) in enumerate(frames)
        if scene.is_true or _is_explained(image, plate, labels[row], settings.labels)
    ]
    somebody = [row for row in usable if len(labels[row].boxes)]
    nobody = sorted(set(usable).difference(somebody))
    few = np.linspace(0, len(nobody), min(len(nobody), len(somebody) // _EMPTY), endpoint=False).astype(int)
    kept = sorted([*somebody, *(nobody[row] for row in few.tolist())])
    for row in kept:
        index, image = frames[row]
        cv2.imwrite(str(folder / "frames" / f"{index:06d}.jpg"), image, _QUALITY)
    arrays = {
        f"{frames[row][0]:06d}.{part.name}": getattr(labels[row], part.name) for row in kept for part in fields(Labels)
    }
    np.savez(folder / _LABELS, **arrays)
    count = _cut(frames, labels, plate, settings.cuts, folder / "people")
    logger.info("scene", extra={"scene": source.name, "frames": len(kept), "of": len(frames), "cut_out": count})


def _is_explained(image: Image, plate: Image, labels: Labels, settings: LabelConfig) -> bool:
    """Tell whether all that moves has a label."""
    return unexplained(image, plate, labels.boxes, settings.difference) <= settings.unlabelled


def _cut(frames: list[tuple[int, Image]], labels: list[Labels], plate: Image, settings: CutConfig, folder: Path) -> int:
    """Cut everybody out, spread over the time they are there; return how many views there are."""
    chances: defaultdict[int, list[tuple[int, FloatArray]]] = defaultdict(list)
    height, width = plate.shape[:2]
    for row, one in enumerate(labels):
        inside = (one.boxes[:, :2] >= _BORDER).all(1) & (one.boxes[:, 2:] <= (width - _BORDER, height - _BORDER)).all(1)
        tall = one.boxes[:, 3] - one.boxes[:, 1] >= settings.least_height
        for who in np.flatnonzero(inside & tall & (one.visibility >= settings.least_visibility)):
            chances[int(one.ids[who])].append((row, one.boxes[who]))
    count = 0
    for identity, seen in sorted(chances.items()):
        for row, box in (seen[at] for at in spread(len(seen), settings.views)):
            index, image = frames[row]
            cut = cut_person(image, plate, box, settings.height)
            if cut is not None:
                cv2.imwrite(str(folder / f"{identity:04d}_{index:06d}.png"), cut)
                count += 1
    return count


def _read(folder: Path) -> Material:
    frames = tuple(sorted((folder / "frames").glob("*.jpg")))
    with np.load(folder / _LABELS) as arrays:
        names = [part.name for part in fields(Labels)]
        labels = tuple(Labels(*(arrays[f"{file.stem}.{name}"] for name in names)) for file in frames)
    people: defaultdict[int, list[Path]] = defaultdict(list)
    for file in sorted((folder / "people").glob("*.png")):
        people[int(file.stem.split("_")[0])].append(file)
    return Material(folder, frames, labels, {identity: tuple(files) for identity, files in people.items()})

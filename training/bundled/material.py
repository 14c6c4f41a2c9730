"""Material of one scene on disk: frames, labels, background and cutouts of people."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from motserve.lab.evaluation.reid_data import read_image
from motserve.types import FloatArray, Image
from training.bundled.background import estimate_background, unlabelled_share
from training.bundled.config import CutConfig, LabelConfig, MaterialConfig, SceneSource
from training.bundled.cutting import cut_person
from training.bundled.footage import Labels, open_scene
from training.dir_cache import make_once
from training.overlays import Cut

logger = logging.getLogger("motserve.training")

_BACKGROUND: Final = "place.png"
_LABELS: Final = "labels.npz"
QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 96]
FRAMES: Final = "frames"
PEOPLE: Final = "people"
"""Folders of the usable pictures and of the cutouts."""
_BORDER: Final = 3
"""Minimum distance of a cutout from the border of the picture in pixels; people at the border may be truncated."""

_EMPTY: Final = 12
"""Number of frames with people per selected frame without people."""

_BACKGROUND_FRAMES: Final = 41
"""Maximum number of frames for the background's median; more cost memory and change little."""


@dataclass(frozen=True, slots=True)
class Material:
    """Prepared material of a scene.

    Attributes:
        folder: Its folder.
        frames: Picture files of the usable frames.
        labels: Labels of each of these frames.
        people: Files with the cutouts of each person, by ID.
    """

    folder: Path
    frames: tuple[Path, ...]
    labels: tuple[Labels, ...]
    people: dict[int, tuple[Path, ...]]

    def background(self) -> Image:
        """Read the background."""
        return read_image(self.folder / _BACKGROUND)

    def empty(self) -> list[Path]:
        """Return the pictures in which no one is labelled, not even as unsure."""
        return [
            file
            for file, labels in zip(self.frames, self.labels, strict=True)
            if not len(labels.boxes) and not len(labels.others)
        ]

    def views(self) -> list[list[Cut]]:
        """Read the cutouts of each person."""
        return [[read_cut(file) for file in files] for files in self.people.values()]


def prepare_scene(source: SceneSource, data: Path, settings: MaterialConfig, folder: Path) -> Material:
    """Prepare a scene; the output of an earlier call with the same settings is reused.

    Args:
        source: The scene.
        data: Folder that its path is relative to.
        settings: Labelling and cutouts.
        folder: Output folder; its content is replaced.

    Raises:
        MotserveError: A file is missing or malformed.
    """
    relevant = source.model_dump(mode="json", include={"path", "every"})
    stamp = json.dumps([relevant, settings.labels.model_dump(mode="json"), settings.cuts.model_dump(mode="json")])
    make_once(folder, stamp, lambda: _extract(source, data, settings, folder))
    return _read(folder)


def read_cut(file: Path) -> Cut:
    """Read a picture with alpha and premultiplied colours."""
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), np.uint8)


def _extract(source: SceneSource, data: Path, settings: MaterialConfig, folder: Path) -> None:
    for name in (FRAMES, PEOPLE):
        (folder / name).mkdir()
    scene = open_scene(source, data, data / settings.teacher, settings.labels)
    frames = list(scene.frames(source.every))
    labels = [scene.labels[index] for index, _ in frames]
    moving = [np.vstack([one.boxes, one.others]) for one in labels]
    sample = range(0, len(frames), -(-len(frames) // _BACKGROUND_FRAMES))
    background = estimate_background([frames[row][1] for row in sample], [moving[row] for row in sample])
    cv2.imwrite(str(folder / _BACKGROUND), background)
    usable = [
        row
        for row, (_, image) in enumerate(frames)
        if scene.is_true or _is_labelled(image, background, labels[row], settings.labels)
    ]
    with_people = [row for row in usable if len(labels[row].boxes)]
    without_people = sorted(set(usable).difference(with_people))
    count = min(len(without_people), len(with_people) // _EMPTY)
    few = np.linspace(0, len(without_people), count, endpoint=False).astype(int)
    selected = sorted([*with_people, *(without_people[row] for row in few.tolist())])
    for row in selected:
        index, image = frames[row]
        cv2.imwrite(str(folder / FRAMES / f"{index:06d}.jpg"), image, QUALITY)
    write_labels(folder, {f"{frames[row][0]:06d}": labels[row] for row in selected})
    count = _cut(frames, labels, background, settings.cuts, folder / PEOPLE)
    logger.info("scene", extra={"scene": source.name, "frames": len(selected), "of": len(frames), "cut_out": count})


def people_to_cut(labels: Labels, width: int, height: int, settings: CutConfig) -> list[int]:
    """Return the rows of the people who are high enough, not occluded, and not at the border of a picture.

    Args:
        labels: Labels of the picture.
        width: Its width in pixels.
        height: Its height in pixels.
        settings: Least height and visibility.
    """
    boxes = labels.boxes
    inside = (boxes[:, :2] >= _BORDER).all(1) & (boxes[:, 2:] <= (width - _BORDER, height - _BORDER)).all(1)
    tall = boxes[:, 3] - boxes[:, 1] >= settings.min_height
    rows: list[int] = np.flatnonzero(inside & tall & (labels.visibility >= settings.min_visibility)).tolist()
    return rows


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices of `count` items, evenly spaced from the first to the last.

    >>> spread(9, 3), spread(2, 3), spread(0, 3)
    ([0, 4, 8], [0, 1], [])
    """
    indices: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return indices


def write_labels(folder: Path, labels: Mapping[str, Labels]) -> None:
    """Write the labels of pictures, by the names of their files without suffix; see `read_labels`."""
    arrays: dict[str, Any] = {
        f"{stem}.{part.name}": getattr(one, part.name) for stem, one in labels.items() for part in fields(Labels)
    }
    np.savez(folder / _LABELS, **arrays)


def read_labels(folder: Path) -> tuple[tuple[Path, ...], tuple[Labels, ...]]:
    """Return the pictures of a folder of material, in order, and the labels of each."""
    files = tuple(sorted((folder / FRAMES).glob("*.jpg")))
    with (folder / _LABELS).open("rb") as stored, np.load(stored) as arrays:
        names = [part.name for part in fields(Labels)]
        return files, tuple(Labels(*(arrays[f"{file.stem}.{name}"] for name in names)) for file in files)


def _is_labelled(image: Image, background: Image, labels: Labels, settings: LabelConfig) -> bool:
    """Return whether the labels cover all moving people."""
    return unlabelled_share(image, background, labels.boxes, settings.difference) <= settings.unlabelled


def _cut(
    frames: list[tuple[int, Image]], labels: list[Labels], background: Image, settings: CutConfig, folder: Path
) -> int:
    """Cut people out at evenly spaced times of their presence; return the number of cutouts."""
    candidates: defaultdict[int, list[tuple[int, FloatArray]]] = defaultdict(list)
    height, width = background.shape[:2]
    for row, one in enumerate(labels):
        for person in people_to_cut(one, width, height, settings):
            candidates[int(one.ids[person])].append((row, one.boxes[person]))
    count = 0
    for identity, observations in sorted(candidates.items()):
        for row, box in (observations[at] for at in spread(len(observations), settings.views)):
            index, image = frames[row]
            cut = cut_person(image, background, box, settings.height)
            if cut is not None:
                cv2.imwrite(str(folder / f"{identity:04d}_{index:06d}.png"), cut)
                count += 1
    return count


def _read(folder: Path) -> Material:
    frames, labels = read_labels(folder)
    people: defaultdict[int, list[Path]] = defaultdict(list)
    for file in sorted((folder / PEOPLE).glob("*.png")):
        people[int(file.stem.split("_")[0])].append(file)
    return Material(folder, frames, labels, {identity: tuple(files) for identity, files in people.items()})

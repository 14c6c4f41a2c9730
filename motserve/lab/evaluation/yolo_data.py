"""Reads data sets in YOLO layout: `data.yaml`, pictures in `images/`, one text file per picture in `labels/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from motserve.config.paths import local_path
from motserve.errors import InvalidData, NotFound
from motserve.files.folders import visible_files
from motserve.files.yaml_reader import read_yaml
from motserve.lab.evaluation.detection import ImageTruth
from motserve.video.images.image_header import IMAGE_SUFFIXES, image_size

_COLUMNS = 5  # class, centre x, centre y, width, height
_OTHER_PICTURES = frozenset(
    {".avif", ".bmp", ".heic", ".tif", ".tiff", ".webp"}
)  # skipping them would change the score
_EXIF = b"Exif\0\0"
_HEAD_BYTES = 65536  # that contain it


@dataclass(frozen=True, slots=True)
class YoloData:
    """One split of a data set.

    Attributes:
        images: Paths of the pictures, in order of their names.
        truth: Ground truth of each picture.
        names: Name of each class index.
        labels: Paths of the label files that exist.
    """

    images: tuple[Path, ...]
    truth: tuple[ImageTruth, ...]
    names: Mapping[int, str]
    labels: tuple[Path, ...]


def read_yolo(data: Path, split: str) -> YoloData:
    """Read a split.

    Args:
        data: The `data.yaml` with `path` (relative to the file itself), `names`, and for each split a folder, a text
            file of paths, or a list of these.
        split: Name of the split, such as `val`.

    Returns:
        Pictures and labels. A picture without a label file has no objects.

    Raises:
        NotFound: There is no such file or folder.
        InvalidData: The file, a picture or a row of labels is malformed; the message names file and line.
    """
    try:
        tree = read_yaml(data)
    except FileNotFoundError as error:
        raise NotFound(f"there is no data set at {data}") from error
    except (OSError, yaml.YAMLError) as error:
        raise InvalidData(f"{data} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict) or "names" not in tree or split not in tree:
        has = ", ".join(map(str, tree)) if isinstance(tree, dict) else type(tree).__name__
        raise InvalidData(f"{data} must have the keys `names` and `{split}`; it has {has}")
    names = _names(tree["names"], data)
    sources = tree[split] if isinstance(tree[split], list) else [tree[split]]
    if not all(isinstance(part, str) for part in (tree.get("path") or "", *sources)):
        raise InvalidData(f"{data}: `path` must be a folder, and `{split}` a folder, a text file or a list of them")
    try:
        root = data.parent / local_path(tree.get("path") or ".")
        locations = [root / local_path(source) for source in sources]
    except ValueError as error:
        raise InvalidData(f"{data}: {error}") from error
    # a picture in two sources counts once
    images = list(dict.fromkeys(image for location in locations for image in _images(location, root)))
    if not images:
        raise InvalidData(f"{data}: {split} has no pictures ({', '.join(IMAGE_SUFFIXES)}) in {sources}")
    labels = [_label_path(image) for image in images]
    truth = tuple(_read_truth(image, label, names) for image, label in zip(images, labels, strict=True))
    return YoloData(tuple(images), truth, names, tuple(label for label in labels if label.is_file()))


def _names(tree: Any, data: Path) -> dict[int, str]:
    names = dict(enumerate(tree)) if isinstance(tree, list) else tree
    if not isinstance(names, dict) or not all(type(i) is int and isinstance(name, str) for i, name in names.items()):
        raise InvalidData(f"{data}: `names` must be a list of names, or a mapping of whole numbers to names")
    return names


def _images(source: Path, root: Path) -> list[Path]:
    if source.is_dir():
        files = visible_files(source, (*IMAGE_SUFFIXES, *_OTHER_PICTURES), below=True)
        other = next((path for path in files if path.suffix.lower() in _OTHER_PICTURES), None)
        if other is not None:
            raise InvalidData(f"{other}: pictures are read from {', '.join(IMAGE_SUFFIXES)}; convert it or remove it")
        return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if source.suffix == ".txt" and source.is_file():
        return [root / line.strip() for line in _lines(source) if line.strip()]
    raise NotFound(f"there is no folder of pictures and no list of them at {source}")


def _label_path(image: Path) -> Path:
    """Return the label file of a picture: the last folder `images` of the path becomes `labels`."""
    parts = list(image.parts)
    at = max((index for index, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if at is not None:
        parts[at] = "labels"
    return Path(*parts).with_suffix(".txt")


def _read_truth(image: Path, label: Path, names: Mapping[int, str]) -> ImageTruth:
    size = _upright_size(image)
    lines = _lines(label) if label.is_file() else []
    rows = [_read_row(line, f"{label}, line {number}", names) for number, line in enumerate(lines, 1) if line.strip()]
    table = np.array(rows, np.float64).reshape(-1, _COLUMNS)
    centre, half = table[:, 1:3] * size, table[:, 3:5] * size / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return ImageTruth(boxes, table[:, 0].astype(np.int64), np.zeros(len(table), np.bool_))


def _upright_size(image: Path) -> tuple[int, int]:
    """Return width and height of a picture after rotation by its Exif data, as labels refer to it."""
    try:
        data = image.read_bytes()
    except OSError as error:
        raise NotFound(f"picture {image} cannot be read: {error.strerror}") from error
    size = image_size(data)
    if size is None:
        raise InvalidData(f"{image} is not a complete JPEG or PNG image")
    if _EXIF not in data[:_HEAD_BYTES]:
        return size
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InvalidData(f"{image} cannot be decoded")
    return pixels.shape[1], pixels.shape[0]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path} is not a text file") from error


def _read_row(line: str, where: str, names: Mapping[int, str]) -> list[float]:
    try:
        row = [float(field) for field in line.split()]
    except ValueError as error:
        raise InvalidData(f"{where}: a field is not a number: {line[:80]!r}") from error
    if len(row) != _COLUMNS or not all(0 <= value <= 1 for value in row[1:]):
        raise InvalidData(f"{where}: expected class, centre x, centre y, width and height in [0, 1]: {line[:80]!r}")
    if row[0] not in names:
        raise InvalidData(f"{where}: class {row[0]:g} is unknown; the data set has {', '.join(map(str, names))}")
    return row

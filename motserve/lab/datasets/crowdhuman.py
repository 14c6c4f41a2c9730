"""Converts CrowdHuman (Shao et al. 2018) to labels and COCO annotations of whole bodies, including occluded parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from motserve.errors import InvalidData
from motserve.files.folders import is_hidden
from motserve.lab.datasets.catalogue import CrowdHumanContents
from motserve.lab.datasets.coco import CocoWriter
from motserve.lab.datasets.output import Output
from motserve.lab.datasets.pictures import Picture, describe_contents, list_pictures, list_some, picture_size
from motserve.lab.datasets.survey import Survey
from motserve.lab.datasets.yolo import clip_boxes, data_yaml, label_text

_FOLDERS = ("Images", "images")
_PERSON, _MASK = "person", "mask"
_COUNTED = ("pictures", "boxes", "ignored", "labels")


@dataclass(frozen=True, slots=True)
class _Box:
    """One box of a picture: left, top, width and height in pixels, origin 0.

    Attributes:
        full: The whole person; may reach beyond the picture.
        visible: Box of the visible part; None if it is not annotated.
        ignored: Whether it is a crowd, a reflection or ambiguous, so it is not used for training.
    """

    full: list[float]
    visible: list[float] | None
    ignored: bool


def survey(source: Path, contents: CrowdHumanContents) -> Survey:
    """Survey a downloaded CrowdHuman.

    Args:
        source: The folder with the annotations, and with the pictures in `Images` or `images`, itself or one level
            down, as the archives unpack.
        contents: The data set.

    Raises:
        InvalidData: The folder holds no CrowdHuman, or a line of the annotations is malformed.
    """
    files = {split: source / f"annotation_{split}.odgt" for split in contents.pictures}
    if not any(file.is_file() for file in files.values()):
        expected = " or ".join(file.name for file in files.values())
        raise InvalidData(f"{source} is not {contents.title}: there is no {expected}; {describe_contents(source)}")
    pictures = _find_pictures(source)
    left_out: list[str] = []
    available: dict[str, dict[str, Picture]] = {}
    for split, file in files.items():
        if not file.is_file():
            left_out.append(f"{file.name} is missing")
            continue
        names = list(dict.fromkeys(name for _, name, _ in _records(file)))
        if len(names) != contents.pictures[split]:
            left_out.append(f"{file.name} has {len(names)} pictures where {contents.pictures[split]} were published")
        missing = [f"{name}.jpg" for name in names if name not in pictures]
        if missing:
            left_out.append(f"{split}: {len(missing)} of {len(names)} pictures are missing: {list_some(missing)}")
        available[split] = {name: pictures[name] for name in names if name in pictures}
    return Survey(
        source,
        tuple(left_out),
        sum(map(len, available.values())),
        "output",
        {},
        {},
        partial(_write, contents, files, {split: present for split, present in available.items() if present}),
    )


def _find_pictures(source: Path) -> dict[str, Picture]:
    """Return every picture by its name without suffix."""
    places = [source, *sorted(path for path in source.iterdir() if path.is_dir() and not is_hidden(path.name))]
    folders = [place / name for place in places for name in _FOLDERS if (place / name).is_dir()]
    pictures = (picture for folder in folders for picture in list_pictures(folder))
    # an interrupted download leaves empty files
    return {picture.path.stem: picture for picture in pictures if picture.bytes}


def _write(
    contents: CrowdHumanContents, files: Mapping[str, Path], available: Mapping[str, Mapping[str, Picture]], out: Output
) -> dict[str, Any]:
    counts = {}
    for split, pictures in available.items():
        out.read(files[split])
        with out.open(f"annotations/{split}.json") as file:
            coco = CocoWriter(file, f"{contents.title}, {split}")
            counts[split] = _write_split(split, files[split], pictures, coco, out)
            coco.finish()
    out.write("data.yaml", data_yaml(tuple(available)))
    return counts


def _write_split(
    split: str, annotations: Path, pictures: Mapping[str, Picture], coco: CocoWriter, out: Output
) -> dict[str, int]:
    counts: Counter[str] = Counter()
    first_line: dict[str, int] = {}
    for number, name, record in _records(annotations):
        where = f"{annotations.name}, line {number}"
        if name in first_line:
            raise InvalidData(f"{where}: picture {name} is also on line {first_line[name]}")
        first_line[name] = number
        boxes = _read_boxes(record, where)
        if name not in pictures:
            continue
        picture = pictures[name]
        size = picture_size(picture)
        if size is None:
            raise InvalidData(f"{picture.path} is not a complete JPEG or PNG image; download it again")
        file_name = f"{name}{picture.path.suffix.lower()}"
        out.link(picture, f"images/{split}/{file_name}")
        people = [box.full for box in boxes if not box.ignored]
        labels = clip_boxes(np.array(people, np.float64).reshape(-1, 4), *size)
        out.write(f"labels/{split}/{name}.txt", label_text(labels))
        image = coco.picture(file_name, *size)
        for box in boxes:
            coco.annotation(image, box.full, box.ignored, **({"vis_bbox": box.visible} if box.visible else {}))
        counts["pictures"] += 1
        counts["boxes"] += len(people)
        counts["ignored"] += len(boxes) - len(people)
        counts["labels"] += len(labels)
    return {key: counts[key] for key in _COUNTED}


def _records(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield from a file of annotations the number of each line, the name of its picture, and its boxes."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise InvalidData(f"{where} is not JSON: {error}") from error
            if not isinstance(record, dict) or not isinstance(record.get("ID"), str):
                raise InvalidData(f"{where}: the ID of the picture is missing")
            yield number, record["ID"], record.get("gtboxes")


def _read_boxes(boxes: Any, where: str) -> list[_Box]:
    if not isinstance(boxes, list):
        raise InvalidData(f"{where}: gtboxes is not a list")
    read = [_read_box(box, f"{where}, box {number}") for number, box in enumerate(boxes, 1)]
    # a box without area shows no person and is not valid in COCO
    return [box for box in read if box.full[2] > 0 and box.full[3] > 0]


def _read_box(box: Any, where: str) -> _Box:
    if not isinstance(box, dict):
        raise InvalidData(f"{where} is not an object")
    tag, extra = box.get("tag"), box.get("extra", {})
    if tag not in (_PERSON, _MASK):
        raise InvalidData(f"{where}: tag must be {_PERSON} or {_MASK}, got {tag!r}")
    if not isinstance(extra, dict):
        raise InvalidData(f"{where}: extra is not an object")
    visible = _numbers(box["vbox"], "vbox", where) if "vbox" in box else None
    return _Box(_numbers(box.get("fbox"), "fbox", where), visible, tag == _MASK or extra.get("ignore") == 1)


def _numbers(value: Any, key: str, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(x, (int, float)) for x in value):
        raise InvalidData(f"{where}: {key} must be left, top, width and height, got {str(value)[:80]}")
    return value

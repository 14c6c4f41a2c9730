"""Writes an index of Market-1501 (Zheng et al. 2015) or DukeMTMC-reID (Zheng et al. 2017); pictures stay in place."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from motserve.errors import InvalidData
from motserve.files.folders import is_hidden
from motserve.lab.datasets.catalogue import GALLERY_FOLDER, QUERY_FOLDER, TRAIN_FOLDER, ReidContents
from motserve.lab.datasets.output import Output
from motserve.lab.datasets.pictures import Picture, describe_contents, list_pictures
from motserve.lab.datasets.survey import Survey
from motserve.lab.evaluation.reid_names import DISTRACTOR, JUNK, parse_reid_name

COLUMNS = ("path", "identity", "camera", "label")

_FORM = "0002_c1s1_000451_03.jpg or 0005_c2_f0046985.jpg"
_NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class _Crop:
    picture: Picture
    identity: int
    camera: int


def survey(source: Path, contents: ReidContents, kind: str, seed: int, held_out_share: float) -> Survey:
    """Survey a downloaded Re-ID data set.

    Args:
        source: The folder with `bounding_box_train`, `query` and `bounding_box_test`, or one that holds such a folder.
        contents: The data set.
        kind: Name of the data set in the index.
        seed: Seed that selects the people of the validation split.
        held_out_share: Share of the training people in that split, in [0, 1).

    Raises:
        InvalidData: The folder does not hold the data set, or the name of a picture is malformed.
    """
    if not 0 <= held_out_share < 1:
        raise ValueError(f"held_out_share must be in [0, 1), got {held_out_share}")
    root = _find_root(source, contents)
    crops: dict[str, list[_Crop]] = {}
    left_out: list[str] = []
    for folder in contents.folders:
        folder_crops = _read_folder(root / folder)
        left_out += _compare(folder, folder_crops, contents)
        if folder_crops:
            crops[folder] = folder_crops
    return Survey(
        root,
        tuple(left_out),
        sum(map(len, crops.values())),
        "source",
        {},
        {"seed": seed, "held_out_share": held_out_share},
        partial(_write, kind, root, crops, seed, held_out_share),
    )


def held_out(identities: Iterable[int], seed: int, share: float) -> set[int]:
    """Choose people for the validation split.

    The order comes from a hash, not from a random generator. So it does not depend on library versions, and a held-out
    person stays held out when other people leave the data set.

    Args:
        identities: All identities.
        seed: Seed of the choice.
        share: Share of the people, in [0, 1). Above 0 at least one person is held out; at least one always remains.
    """
    people = set(identities)
    count = min(max(round(share * len(people)), 1 if share else 0), max(len(people) - 1, 0))
    order = sorted(people, key=lambda identity: hashlib.sha256(f"{seed}:{identity}".encode()).digest())
    return set(order[:count])


def _find_root(source: Path, contents: ReidContents) -> Path:
    roots = [source, *sorted(path for path in source.iterdir() if path.is_dir() and not is_hidden(path.name))]
    counts = [sum((root / folder).is_dir() for folder in contents.folders) for root in roots]
    if not any(counts):
        raise InvalidData(
            f"{source} is not {contents.title}: there is no {', '.join(contents.folders)} in it or one level down; "
            f"{describe_contents(source)}"
        )
    return roots[counts.index(max(counts))]


def _read_folder(folder: Path) -> list[_Crop]:
    if not folder.is_dir():
        return []
    crops = []
    for picture in list_pictures(folder):
        parsed = parse_reid_name(picture.path.name)
        if parsed is None:
            raise InvalidData(f"{folder.name}/{picture.path.name}: the name is not of the form {_FORM}")
        if not picture.bytes:
            raise InvalidData(f"{folder.name}/{picture.path.name} is empty; download it again")
        if folder.name == TRAIN_FOLDER and parsed[0] in (JUNK, DISTRACTOR):
            raise InvalidData(
                f"{folder.name}/{picture.path.name} is a distractor or junk; such pictures belong to the test set only"
            )
        crops.append(_Crop(picture, *parsed))
    return crops


def _compare(folder: str, crops: Sequence[_Crop], contents: ReidContents) -> list[str]:
    if not crops:
        return [f"{folder} is missing"]
    published = contents.folders[folder]
    complaints = []
    if len(crops) != published.pictures:
        complaints.append(f"{folder} has {len(crops)} pictures where {published.pictures} were published")
    people = len(_people(crops))
    if published.people is not None and people != published.people:
        complaints.append(f"{folder} has {people} people where {published.people} were published")
    return complaints


def _people(crops: Iterable[_Crop]) -> set[int]:
    return {crop.identity for crop in crops} - {JUNK, DISTRACTOR}


def _write(
    kind: str, root: Path, crops: Mapping[str, Sequence[_Crop]], seed: int, share: float, out: Output
) -> dict[str, Any]:
    parts: dict[str, Sequence[_Crop]] = {}
    labels: dict[int, int] = {}
    if TRAIN_FOLDER in crops:
        training_people = _people(crops[TRAIN_FOLDER])
        held_out_people = held_out(training_people, seed, share)
        labels = {identity: label for label, identity in enumerate(sorted(training_people - held_out_people))}
        parts["train"] = [crop for crop in crops[TRAIN_FOLDER] if crop.identity not in held_out_people]
        parts["validation"] = [crop for crop in crops[TRAIN_FOLDER] if crop.identity in held_out_people]
    for part, folder in (("query", QUERY_FOLDER), ("gallery", GALLERY_FOLDER)):
        if folder in crops:
            parts[part] = crops[folder]
    for part, chosen in parts.items():
        out.write(f"{part}.csv", _table(chosen, labels if part == "train" else {}, out))
    counts = {part: _count(chosen) for part, chosen in parts.items()}
    tree = {"kind": kind, "root": str(root), "counts": counts}
    out.write("dataset.yaml", yaml.safe_dump(tree, sort_keys=False).encode())
    return counts


def _table(crops: Sequence[_Crop], labels: Mapping[int, int], out: Output) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for crop in crops:
        label = labels.get(crop.identity, _NO_LABEL)
        table.writerow((out.refer(crop.picture), crop.identity, crop.camera, label))
    return text.getvalue().encode()


def _count(crops: Sequence[_Crop]) -> dict[str, int]:
    return {
        "pictures": len(crops),
        "identities": len(_people(crops)),
        "cameras": len({crop.camera for crop in crops}),
        "distractors": sum(crop.identity == DISTRACTOR for crop in crops),
        "junk": sum(crop.identity == JUNK for crop in crops),
    }

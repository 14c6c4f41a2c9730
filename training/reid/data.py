"""Who is learned from, who is kept apart to choose the model by, and what the result is measured on."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from motserve.errors import InvalidConfig, InvalidData
from motserve.lab.datasets.manifest import is_prepared, read_manifest
from motserve.lab.datasets.reid import held_out
from motserve.lab.evaluation.reid_data import (
    CropTable,
    Protocol,
    read_ids,
    read_labelled,
    read_protocol,
    read_training,
)
from motserve.models.provenance import describe_files
from motserve.types import IntArray
from training.data_version import describe_data
from training.reid.config import ReidDataConfig, ReidTrainingConfig

_TRAIN_IDS: Final = "train_ids.txt"
_TEST_IDS: Final = "val_ids.txt"
_PREPARED: Final = ("train.csv", "validation.csv")


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Crops to learn from and crops to choose by; nobody is in both.

    Attributes:
        train: Crops to learn from.
        labels: `(n,)` int64, the class of each, from 0.
        classes: Number of classes.
        validation: Crops of those who are kept apart; empty where nobody is.
    """

    train: CropTable
    labels: IntArray
    classes: int
    validation: CropTable


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """Data that the result is measured on, once.

    Attributes:
        name: What its scores are logged under.
        root: Its folder.
        protocol: Its layout, and what is compared with what.
        people: The only people that count; None for all.
    """

    name: str
    root: Path
    protocol: Protocol
    people: frozenset[int] | None


def read_training_data(data: ReidDataConfig) -> TrainingData:
    """Read who is learned from and who is kept apart.

    Raises:
        NotFound: A folder or a file is not there.
        InvalidConfig: The folder was prepared as another data set.
        InvalidData: A name or a list is malformed, or too few people are left to learn from or to choose by.
    """
    crops, apart = _read(data)
    if data.validation_ids is not None:
        apart = read_ids(data.validation_ids)
        if not np.isin(list(apart), crops.identities).any():
            raise InvalidData(f"{data.validation_ids}: nobody of it is among the training people of {data.root}")
    elif apart is None:
        apart = held_out(crops.identities.tolist(), data.validation_seed, data.validation_share)
    validation = crops.of_people(apart)
    train = crops.rows(~np.isin(crops.identities, validation.identities))
    people, labels = np.unique(train.identities, return_inverse=True)
    if len(people) < 2:
        raise InvalidData(f"{data.root} leaves {len(people)} people to learn from; two are needed at the least")
    if len(validation) and not _across_cameras(validation):
        raise InvalidData(
            f"{data.root}: nobody of the {len(np.unique(validation.identities))} who are kept apart was seen by two "
            "cameras, so there is nothing to choose the model by; keep others apart, or nobody: "
            "data.validation_share=0"
        )
    return TrainingData(train, labels.astype(np.int64).reshape(-1), len(people), validation)


def list_tests(settings: ReidTrainingConfig) -> list[MeasuredSet]:
    """Return the data that the result is measured on: the test of the data set, then the others.

    Everything is looked for now, so that no job finds out at its end that it cannot be measured.

    Raises:
        NotFound: A folder or a file is not there.
        InvalidData: A name or a list is malformed.
    """
    data = settings.data
    root = _source(data)
    if data.layout == "pku":
        tests = [MeasuredSet("test", root, "cross-camera", read_ids(root / _TEST_IDS))]
    else:
        tests = [MeasuredSet("test", root, data.layout, None)]
    for other in settings.cross:
        people = None if other.people is None else read_ids(other.people)
        tests.append(MeasuredSet(f"cross/{other.root.name}", other.root, other.protocol, people))
    names = [test.name for test in tests]
    if len(set(names)) < len(names):
        raise InvalidConfig(f"data sets of `cross` are told apart by the names of their folders; got {names[1:]}")
    for test in tests:
        read_protocol(test.root, test.protocol)
    return tests


def describe_training_data(data: ReidDataConfig) -> dict[str, Mapping[str, Any]]:
    """Return what the record says of the data; see `describe_data`."""
    described: dict[str, Mapping[str, Any]] = {"train": describe_data(data.root)}
    if data.validation_ids is not None:
        described["validation_ids"] = describe_files([data.validation_ids])
    return described


def _read(data: ReidDataConfig) -> tuple[CropTable, Collection[int] | None]:
    """Return the crops of the training people, and who of them is kept apart where the data set says so."""
    if data.layout == "pku":
        return read_labelled(data.root).of_people(read_ids(data.root / _TRAIN_IDS)), None
    if not is_prepared(data.root):
        return read_training(data.root, data.layout), None
    source = _source(data)
    rows = {name: _read_table(data.root / name) for name in _PREPARED}
    everything = [row for part in rows.values() for row in part]
    labels = np.array([(int(row["identity"]), int(row["camera"])) for row in everything], np.int64).reshape(-1, 2)
    crops = CropTable(tuple(source / row["path"] for row in everything), labels[:, 0], labels[:, 1])
    return crops, {int(row["identity"]) for row in rows["validation.csv"]}


def _source(data: ReidDataConfig) -> Path:
    """Return the folder with the pictures of a data set; one that was prepared refers to another."""
    if data.layout == "pku" or not is_prepared(data.root):
        return data.root
    manifest = read_manifest(data.root)
    if manifest.kind != data.layout:
        raise InvalidConfig(f"{data.root} was prepared as {manifest.kind}; data.layout is {data.layout}")
    return Path(manifest.root)


def _read_table(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as text:
            return list(csv.DictReader(text))
    except OSError as error:
        raise InvalidData(f"{file} cannot be read: {error.strerror}; prepare the data set again") from error


def _across_cameras(table: CropTable) -> bool:
    seen = np.unique(np.column_stack([table.identities, table.cameras]), axis=0)
    return bool((np.unique(seen[:, 0], return_counts=True)[1] > 1).any())

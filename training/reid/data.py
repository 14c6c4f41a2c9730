"""Training people, held-out people by which the best epoch is chosen, and test sets."""

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
    """Crops for training and crops of other people for validation.

    Attributes:
        train: Crops for training.
        labels: `(n,)` int64, the class of each, from 0.
        classes: Number of classes.
        validation: Crops of the held-out people; may be empty.
    """

    train: CropTable
    labels: IntArray
    classes: int
    validation: CropTable


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """A test set, scored once at the end.

    Attributes:
        name: Prefix of its scores in the log.
        root: Its folder.
        protocol: Its layout and query/gallery protocol.
        people: IDs of the only people to score; None for all.
    """

    name: str
    root: Path
    protocol: Protocol
    people: frozenset[int] | None


def read_training_data(data: ReidDataConfig) -> TrainingData:
    """Read the training crops and the crops of the held-out people.

    Raises:
        NotFound: A folder or a file is missing.
        InvalidConfig: The folder was prepared as another data set.
        InvalidData: A name or a list is malformed, or too few people are left for training or validation.
    """
    crops, held_out_ids = _read(data)
    if data.validation_ids is not None:
        held_out_ids = read_ids(data.validation_ids)
        if not np.isin(list(held_out_ids), crops.identities).any():
            raise InvalidData(f"{data.validation_ids}: none of these IDs is a training person of {data.root}")
    elif held_out_ids is None:
        held_out_ids = held_out(crops.identities.tolist(), data.validation_seed, data.validation_share)
    validation = crops.of_people(held_out_ids)
    train = crops.rows(~np.isin(crops.identities, validation.identities))
    people, labels = np.unique(train.identities, return_inverse=True)
    if len(people) < 2:
        raise InvalidData(f"{data.root} leaves {len(people)} training people; at least two are needed")
    if len(validation) and not _across_cameras(validation):
        raise InvalidData(
            f"{data.root}: none of the {len(np.unique(validation.identities))} held-out people has crops of two "
            "cameras, so they cannot be validated; hold out other people, or none with "
            "data.validation_share=0"
        )
    return TrainingData(train, labels.astype(np.int64).reshape(-1), len(people), validation)


def list_tests(settings: ReidTrainingConfig) -> list[MeasuredSet]:
    """Return the test sets: the test of the data set itself, then those of `cross`.

    All of them are read now, so that an error does not occur only at the end of a job.

    Raises:
        NotFound: A folder or a file is missing.
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
        raise InvalidConfig(f"data sets of `cross` must have distinct folder names; got {names[1:]}")
    for test in tests:
        read_protocol(test.root, test.protocol)
    return tests


def describe_training_data(data: ReidDataConfig) -> dict[str, Mapping[str, Any]]:
    """Return the description of the data for the run in MLflow; see `describe_data`."""
    described: dict[str, Mapping[str, Any]] = {"train": describe_data(data.root)}
    if data.validation_ids is not None:
        described["validation_ids"] = describe_files([data.validation_ids])
    return described


def _read(data: ReidDataConfig) -> tuple[CropTable, Collection[int] | None]:
    """Return the crops of the training people, and the held-out IDs if the data set defines them."""
    if data.layout == "pku":
        return read_labelled(data.root).of_people(read_ids(data.root / _TRAIN_IDS)), None
    if not is_prepared(data.root):
        return read_training(data.root, data.layout), None
    source = _source(data)
    rows = {name: _read_table(data.root / name) for name in _PREPARED}
    all_rows = [row for part in rows.values() for row in part]
    labels = np.array([(int(row["identity"]), int(row["camera"])) for row in all_rows], np.int64).reshape(-1, 2)
    crops = CropTable(tuple(source / row["path"] for row in all_rows), labels[:, 0], labels[:, 1])
    return crops, {int(row["identity"]) for row in rows["validation.csv"]}


def _source(data: ReidDataConfig) -> Path:
    """Return the folder with the pictures of a data set; a prepared data set refers to another folder."""
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
    pairs = np.unique(np.column_stack([table.identities, table.cameras]), axis=0)
    return bool((np.unique(pairs[:, 0], return_counts=True)[1] > 1).any())

"""Contents of a complete copy of each data set, as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from motserve.choices import Dataset
from motserve.lab.evaluation.benchmarks import DISTRACTORS, DISTRACTORS_MOT20

Kind: TypeAlias = Dataset


@dataclass(frozen=True, slots=True)
class MotContents:
    """The training part of a MOTChallenge benchmark; the test part has no public ground truth.

    Attributes:
        title: Name of the data set.
        lengths: Number of frames of every sequence.
        copies: Suffixes of the names of a sequence's folders, the preferred copy first. MOT17 contains each sequence
            once per public detector, with the same pictures and ground truth.
        distractors: Classes of ground truth that look like people, or are people who need not be detected. A
            detection of one is not a false positive (TrackEval, `MotChallenge2DBox`).
    """

    title: str
    lengths: Mapping[str, int]
    copies: tuple[str, ...]
    distractors: frozenset[int]


@dataclass(frozen=True, slots=True)
class ReidFolder:
    """One folder of a Re-ID data set.

    Attributes:
        pictures: Number of pictures.
        people: Number of identities from 1 on; None where it is not published.
    """

    pictures: int
    people: int | None = None


@dataclass(frozen=True, slots=True)
class ReidContents:
    """A Re-ID data set in the folders of Market-1501.

    Attributes:
        title: Name of the data set.
        folders: Contents of each folder.
    """

    title: str
    folders: Mapping[str, ReidFolder]


@dataclass(frozen=True, slots=True)
class CrowdHumanContents:
    """CrowdHuman; its test part has no public annotations.

    Attributes:
        title: Name of the data set.
        pictures: Number of annotated pictures of each part.
    """

    title: str
    pictures: Mapping[str, int]


Contents: TypeAlias = MotContents | ReidContents | CrowdHumanContents

TRAIN_FOLDER, QUERY_FOLDER, GALLERY_FOLDER = "bounding_box_train", "query", "bounding_box_test"

CATALOGUE: dict[Kind, Contents] = {
    "mot17": MotContents(
        "MOT17",
        {
            "MOT17-02": 600,
            "MOT17-04": 1050,
            "MOT17-05": 837,
            "MOT17-09": 525,
            "MOT17-10": 654,
            "MOT17-11": 900,
            "MOT17-13": 750,
        },
        ("-FRCNN", "-SDP", "-DPM", ""),
        DISTRACTORS,
    ),
    "mot20": MotContents(
        "MOT20",
        {"MOT20-01": 429, "MOT20-02": 2782, "MOT20-03": 2405, "MOT20-05": 3315},
        ("",),
        DISTRACTORS_MOT20,
    ),
    "market1501": ReidContents(
        "Market-1501",
        {
            TRAIN_FOLDER: ReidFolder(12_936, 751),
            QUERY_FOLDER: ReidFolder(3_368, 750),
            GALLERY_FOLDER: ReidFolder(19_732),
        },
    ),
    "dukemtmc": ReidContents(
        "DukeMTMC-reID",
        {
            TRAIN_FOLDER: ReidFolder(16_522, 702),
            QUERY_FOLDER: ReidFolder(2_228, 702),
            GALLERY_FOLDER: ReidFolder(17_661),
        },
    ),
    "crowdhuman": CrowdHumanContents("CrowdHuman", {"train": 15_000, "val": 4_370}),
}

"""Small copies of downloaded data sets, and a catalogue in which they are complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from motserve.lab.datasets.catalogue import (
    CATALOGUE,
    CrowdHumanContents,
    MotContents,
    ReidContents,
    ReidFolder,
)

WIDTH, HEIGHT = 64, 48
LENGTHS = {"MOT17-02": 5, "MOT17-09": 4}

# Of the first sequence: a person who walks out of the picture to the left, one who ends below it, one wholly outside,
# a person with flag 0, a static person, a car and a reflection; not sorted by frame, no person in frame 3.
ROWS = """\
1,1,-9,11,20,30,1,1,0.51234
2,1,-18,11,20,30,1,1,0.1
1,2,31,25,10,40.5,1,1,1
4,2,33,25,10,40.5,1,1,1
2,3,70,5,10,20,1,1,0
2,4,5,5,10,20,0,1,0.4
4,5,50,5,6,20,0,7,1
5,6,20,20,12,8,0,3,1
5,7,40,10,6,20,1,12,1

5,1,1,1,64,48,1,1,1
"""


def small_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    mot17, crowdhuman = CATALOGUE["mot17"], CATALOGUE["crowdhuman"]
    assert isinstance(mot17, MotContents)
    assert isinstance(crowdhuman, CrowdHumanContents)
    monkeypatch.setitem(CATALOGUE, "mot17", MotContents("MOT17", LENGTHS, mot17.copies, mot17.distractors))
    monkeypatch.setitem(CATALOGUE, "crowdhuman", CrowdHumanContents("CrowdHuman", {"train": 3, "val": 1}))
    folders = {"bounding_box_train": ReidFolder(12, 4), "query": ReidFolder(2, 2), "bounding_box_test": ReidFolder(5)}
    monkeypatch.setitem(CATALOGUE, "market1501", ReidContents("Market-1501", folders))


def write_picture(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), noise)


def write_sequence(folder: Path, length: int, rows: str = ROWS) -> None:
    for frame in range(1, length + 1):
        write_picture(folder / f"img1/{frame:06d}.jpg", seed=frame)
    (folder / "gt").mkdir()
    (folder / "gt/gt.txt").write_text(rows)
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=30\nseqLength={length}\nimWidth={WIDTH}\n"
        f"imHeight={HEIGHT}\nimExt=.jpg\n"
    )


def write_mot17(source: Path) -> None:
    write_sequence(source / "train/MOT17-02-FRCNN", 5)
    write_sequence(source / "train/MOT17-09-SDP", 4, "1,1,11,11,20,30,1,1,1\n4,1,11,11,20,30,1,1,1\n")


def write_market(source: Path) -> None:
    people, cameras = (2, 7, 9, 11), (1, 2, 3)
    names = [f"bounding_box_train/{person:04d}_c{camera}s1_000451_01.jpg" for person in people for camera in cameras]
    names += ["query/0001_c1s1_000451_03.jpg", "query/0005_c2_f0046985.jpg"]
    gallery = (
        "-1_c1s1_000401_03",
        "0000_c3s2_000001_01",
        "0001_c2s1_000451_03",
        "0005_c1_f0046985",
        "0005_c4_f0046999",
    )
    names += [f"bounding_box_test/{name}.jpg" for name in gallery]
    for seed, name in enumerate(names):
        write_picture(source / name, 8, 16, seed)
    (source / "bounding_box_test/Thumbs.db").write_bytes(b"file of another system")


def crowdhuman_line(name: str, *boxes: dict[str, Any]) -> str:
    return json.dumps({"ID": name, "gtboxes": list(boxes)}) + "\n"


def crowdhuman_box(full: list[float], **more: Any) -> dict[str, Any]:
    return {"tag": "person", "fbox": full, "vbox": [1, 2, 3, 4], "hbox": [0, 0, 2, 2], "extra": {"occ": 0}, **more}


def write_crowdhuman(source: Path) -> None:
    for seed, (name, size) in enumerate({"1,a": (64, 48), "2,b": (48, 64), "3,c": (64, 48), "4,d": (32, 32)}.items()):
        folder = "CrowdHuman_val/Images" if seed == 3 else f"CrowdHuman_train0{seed + 1}/Images"
        write_picture(source / folder / f"{name}.jpg", *size, seed)
    (source / "annotation_train.odgt").write_text(
        crowdhuman_line(
            "1,a",
            crowdhuman_box([-10, 8, 40, 50]),
            crowdhuman_box([5, 5, 10, 20], extra={"ignore": 1}),
            {"tag": "mask", "fbox": [30, 0, 30, 30], "extra": {}},
            crowdhuman_box([70, 0, 10, 10]),
            crowdhuman_box([10, 10, 0, 10]),
        )
        + crowdhuman_line("2,b")
        + crowdhuman_line("3,c", crowdhuman_box([1.5, 2.5, 10, 20]))
    )
    (source / "annotation_val.odgt").write_text(crowdhuman_line("4,d", crowdhuman_box([0, 0, 32, 32])))


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())

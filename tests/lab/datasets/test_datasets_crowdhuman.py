from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from dataset_copies import crowdhuman_box, crowdhuman_line, files_in

from motserve.errors import InvalidData
from motserve.lab.datasets import PrepareOptions, prepare
from motserve.lab.datasets.pictures import Picture, picture_size


def annotations(folder: Path, split: str) -> Any:
    return json.loads((folder / f"annotations/{split}.json").read_bytes())


def test_labels_and_annotations(crowdhuman: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    out = tmp_path / "out"
    manifest = prepare("crowdhuman", crowdhuman, out)
    assert manifest.counts == {
        "train": {"pictures": 3, "boxes": 3, "ignored": 2, "labels": 2},
        "val": {"pictures": 1, "boxes": 1, "ignored": 0, "labels": 1},
    }
    assert files_in(out / "images") == ["train/1,a.jpg", "train/2,b.jpg", "train/3,c.jpg", "val/4,d.jpg"]
    assert (out / "images/train/2,b.jpg").resolve() == crowdhuman / "CrowdHuman_train02/Images/2,b.jpg"
    assert (out / "labels/train/1,a.txt").read_text() == "0 0.234375 0.583333 0.468750 0.833333\n"
    assert (out / "labels/train/2,b.txt").read_text() == ""
    assert (out / "labels/val/4,d.txt").read_text() == "0 0.500000 0.500000 1.000000 1.000000\n"
    data = COCO(str(out / "annotations/train.json"))
    assert [(i["file_name"], i["width"], i["height"]) for i in data.loadImgs([1, 2, 3])] == [
        ("1,a.jpg", 64, 48),
        ("2,b.jpg", 48, 64),
        ("3,c.jpg", 64, 48),
    ]
    boxes = [(a["image_id"], a["bbox"], a["iscrowd"], a.get("vis_bbox")) for a in data.loadAnns(data.getAnnIds())]
    assert boxes == [
        (1, [-10, 8, 40, 50], 0, [1, 2, 3, 4]),
        (1, [5, 5, 10, 20], 1, [1, 2, 3, 4]),
        (1, [30, 0, 30, 30], 1, None),
        (1, [70, 0, 10, 10], 0, [1, 2, 3, 4]),
        (3, [1.5, 2.5, 10, 20], 0, [1, 2, 3, 4]),
    ]
    described = yaml.safe_load((out / "data.yaml").read_text())
    assert described == {"train": "images/train", "val": "images/val", "names": {0: "person"}}


def test_all_pictures_may_be_in_one_folder(crowdhuman: Path, tmp_path: Path) -> None:
    (crowdhuman / "images").mkdir()
    for picture in crowdhuman.glob("*/Images/*.jpg"):
        picture.rename(crowdhuman / "images" / picture.name)
    assert prepare("crowdhuman", crowdhuman, tmp_path / "out").counts["train"]["pictures"] == 3


def test_missing_files_are_named(crowdhuman: Path, tmp_path: Path) -> None:
    (crowdhuman / "CrowdHuman_train02/Images/2,b.jpg").unlink()
    (crowdhuman / "CrowdHuman_train03/Images/3,c.jpg").write_bytes(b"")
    (crowdhuman / "annotation_val.odgt").unlink()
    message = r"train: 2 of 3 pictures are missing: 2,b.jpg, 3,c.jpg; annotation_val.odgt is missing"
    with pytest.raises(InvalidData, match=message):
        prepare("crowdhuman", crowdhuman, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    manifest = prepare("crowdhuman", crowdhuman, tmp_path / "out", PrepareOptions(allow_missing=True))
    assert manifest.left_out == tuple(message.split("; "))
    assert [image["file_name"] for image in annotations(tmp_path / "out", "train")["images"]] == ["1,a.jpg"]
    assert "val" not in yaml.safe_load((tmp_path / "out/data.yaml").read_text())


def test_a_short_annotation_file_is_named(crowdhuman: Path, tmp_path: Path) -> None:
    path = crowdhuman / "annotation_train.odgt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(InvalidData, match=r"annotation_train.odgt has 2 pictures where 3 were published"):
        prepare("crowdhuman", crowdhuman, tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "the ID of the picture is missing"),
        ('{"ID": 3}', "the ID of the picture is missing"),
        ('{"ID": "3,c"}', "gtboxes is not a list"),
        ('{"ID": "3,c", "gtboxes": [3]}', "box 1 is not an object"),
        ('{"ID": "3,c", "gtboxes": [{"tag": "dog"}]}', "box 1: tag must be person or mask, got 'dog'"),
        ('{"ID": "3,c", "gtboxes": [{"tag": "person"}]}', "box 1: fbox must be left, top, width and height"),
        ('{"ID": "3,c", "gtboxes": [{"tag": "mask", "fbox": [1, 2, 3]}]}', "box 1: fbox must be"),
        ('{"ID": "3,c", "gtboxes": [{"tag": "mask", "fbox": [1, 2, 3, "4"]}]}', "box 1: fbox must be"),
        ('{"ID": "3,c", "gtboxes": [{"tag": "mask", "fbox": [1, 2, 3, 4], "vbox": 1}]}', "box 1: vbox must be"),
        (
            '{"ID": "3,c", "gtboxes": [{"tag": "mask", "fbox": [1, 2, 3, 4], "extra": 1}]}',
            "extra is not an object",
        ),
        (crowdhuman_line("1,a", crowdhuman_box([1, 1, 2, 2])), "picture 1,a is also on line 1"),
    ],
)
def test_a_malformed_line_names_file_and_line(crowdhuman: Path, tmp_path: Path, line: str, message: str) -> None:
    path = crowdhuman / "annotation_train.odgt"
    path.write_text("\n".join([*path.read_text().splitlines()[:2], "", line]))
    with pytest.raises(InvalidData, match=rf"annotation_train.odgt, line 4.*{message}"):
        prepare("crowdhuman", crowdhuman, tmp_path / "out", PrepareOptions(allow_missing=True))
    assert [path.name for path in tmp_path.iterdir()] == ["CrowdHuman"]


def test_a_broken_picture_is_named(crowdhuman: Path, tmp_path: Path) -> None:
    picture = crowdhuman / "CrowdHuman_train03/Images/3,c.jpg"
    picture.write_bytes(picture.read_bytes()[:-20])
    with pytest.raises(InvalidData, match=r"3,c.jpg is not a complete JPEG or PNG image"):
        prepare("crowdhuman", crowdhuman, tmp_path / "out")


def test_the_content_of_a_wrong_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"no annotation_train.odgt or annotation_val.odgt; it is empty"):
        prepare("crowdhuman", tmp_path, tmp_path.parent / "out")


@pytest.mark.parametrize("shape", [(48, 64), (400, 700)])
@pytest.mark.parametrize("preview", [0, 70_000])
@pytest.mark.parametrize("rest", [b"", b"data of a camera" * 9])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_picture_size_is_read_from_both_ends_of_the_file(
    tmp_path: Path, shape: tuple[int, int], preview: int, rest: bytes, suffix: str
) -> None:
    _, data = cv2.imencode(suffix, np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8))
    whole = data.tobytes()
    if suffix == ".jpg":
        segments = b"".join(b"\xff\xe2" + (35_002).to_bytes(2, "big") + bytes(35_000) for _ in range(preview // 35_000))
        whole = whole[:2] + segments + whole[2:] + rest
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole)
    assert picture_size(Picture(path, len(whole))) == (shape[1], shape[0])

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from motserve.errors import InvalidData, NotFound
from motserve.lab.evaluation.yolo_data import YoloData, read_yolo

NAMES = "names: [person, bicycle]\n"


def picture(path: Path, width: int = 100, height: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two pictures of 100x50 in `images/val`, the first with two labels, in a folder whose name has brackets."""
    root = tmp_path / "set[1]"
    picture(root / "images/val/b.png")
    picture(root / "images/val/a.jpg")
    put(root / "labels/val/a.txt", "0 0.5 0.5 0.2 0.4\n1 0 0 0.1 0.1\n")
    return put(root / "data.yaml", f"path: .\nval: images/val\n{NAMES}")


def refusal(data: Path, split: str = "val") -> str:
    with pytest.raises((InvalidData, NotFound)) as caught:
        read_yolo(data, split)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["c.webp", "c.BMP"])
def test_a_picture_of_an_unsupported_format_is_refused(dataset: Path, name: str) -> None:
    put(dataset.parent / "images/val" / name, b"picture")
    assert refusal(dataset).endswith(f"{name}: pictures are read from .jpeg, .jpg, .png; convert it or remove it")


def assert_two_pictures(read: YoloData, root: Path) -> None:
    assert read.images == (root / "images/val/a.jpg", root / "images/val/b.png")
    assert [len(truth.classes) for truth in read.truth] == [2, 0]


def test_hidden_files_beside_images_are_skipped(dataset: Path) -> None:
    for name in ("images/val/._a.jpg", "images/val/.DS_Store", "images/__MACOSX/val/c.webp", "images/.trash/c.jpg"):
        put(dataset.parent / name, b"no picture")
    put(dataset, f"val: images\n{NAMES}")
    assert_two_pictures(read_yolo(dataset, "val"), dataset.parent)


def test_boxes_are_in_pixels(dataset: Path) -> None:
    read = read_yolo(dataset, "val")
    assert_two_pictures(read, dataset.parent)
    np.testing.assert_allclose(read.truth[0].boxes, [[40, 15, 60, 35], [-5, -2.5, 5, 2.5]])
    assert read.truth[0].classes.tolist() == [0, 1]
    assert read.truth[0].ignored.tolist() == [False, False]
    assert read.truth[1].boxes.shape == (0, 4)
    assert read.names == {0: "person", 1: "bicycle"}
    assert read.labels == (dataset.parent / "labels/val/a.txt",)


@pytest.mark.parametrize(
    "text",
    [
        "val: images/val\n",
        "path:\nval: images/val\n",
        "path: images\nval: val\n",
        "path: {root}\nval: images/val\n",
        "val: {root}/images/val\n",
        "val: [images/val]\n",
        "val: [images/val, images]\n",
        "val: list.txt\n",
        "val: [list.txt, images/val]\n",
    ],
)
def test_splits_are_folders_or_lists_and_a_picture_counts_once(dataset: Path, text: str) -> None:
    root = dataset.parent
    put(root / "list.txt", "images/val/a.jpg\n\nimages/val/b.png\n")
    put(dataset, text.replace("{root}", str(root)) + NAMES)
    assert_two_pictures(read_yolo(dataset, "val"), root)


def test_relative_paths(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset.parent)
    assert_two_pictures(read_yolo(Path("data.yaml"), "val"), Path())


def test_names_may_be_a_mapping(dataset: Path) -> None:
    put(dataset, "val: images/val\nnames: {1: bicycle, 0: person}\n")
    assert read_yolo(dataset, "val").names == {0: "person", 1: "bicycle"}


def test_byte_order_marks_and_line_ends_do_not_matter(dataset: Path) -> None:
    root = dataset.parent
    expected = read_yolo(dataset, "val").truth[0]
    put(dataset, f"\ufeffval: list.txt\r\n{NAMES}")
    put(root / "list.txt", "\ufeffimages/val/a.jpg\r\n\r\n")
    put(root / "labels/val/a.txt", "\ufeff0 0.5 0.5 0.2 0.4 \r\n\t\r\n1  0 0 0.1\t0.1\r\n\r\n")
    (read,) = read_yolo(dataset, "val").truth
    np.testing.assert_array_equal(read.boxes, expected.boxes)
    assert read.classes.tolist() == expected.classes.tolist()


def test_the_last_folder_images_of_the_path_becomes_labels(tmp_path: Path) -> None:
    root = tmp_path / "images" / "set"
    picture(root / "images/val/images.v2/a.b.png")
    put(root / "labels/val/images.v2/a.b.txt", "0 0.5 0.5 0.2 0.4\n")
    data = put(root / "data.yaml", f"val: images/val\n{NAMES}")
    assert [len(truth.classes) for truth in read_yolo(data, "val").truth] == [1]


def test_labels_may_be_beside_their_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "flat/a.png")
    put(tmp_path / "flat/a.txt", "1 0.5 0.5 1 1\n")
    (truth,) = read_yolo(put(tmp_path / "data.yaml", f"val: flat\n{NAMES}"), "val").truth
    np.testing.assert_allclose(truth.boxes, [[0, 0, 100, 50]])


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Return a JPEG with an Exif orientation."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x112, 3, 1, orientation, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize(("orientation", "box"), [(1, [40, 15, 60, 35]), (6, [20, 30, 30, 70]), (8, [20, 30, 30, 70])])
def test_labels_refer_to_the_picture_rotated_by_exif(dataset: Path, orientation: int, box: list[float]) -> None:
    path = dataset.parent / "images/val/a.jpg"
    path.write_bytes(with_orientation(path.read_bytes(), orientation))
    decoded = cv2.imread(str(path))
    assert decoded is not None
    height, width = decoded.shape[:2]
    assert (width > height) == (orientation == 1)
    np.testing.assert_allclose(read_yolo(dataset, "val").truth[0].boxes[0], box)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0 0.5 0.5 0.2", "expected class"),
        ("0 0.5 0.5 0.2 0.4 0.9", "expected class"),
        ("0 0.1 0.1 0.9 0.1 0.9 0.9", "expected class"),
        ("0 0.5 0.5 0.2 1.01", "in [0, 1]"),
        ("0 -0.5 0.5 0.2 0.4", "in [0, 1]"),
        ("0 nan 0.5 0.2 0.4", "in [0, 1]"),
        ("2 0.5 0.5 0.2 0.4", "class 2 is unknown; the data set has 0, 1"),
        ("0.5 0.5 0.5 0.2 0.4", "class 0.5 is unknown"),
        ("-1 0.5 0.5 0.2 0.4", "class -1 is unknown"),
        ("1e400 0.5 0.5 0.2 0.4", "class inf is unknown"),
        ("person 0.5 0.5 0.2 0.4", "not a number"),
        ("0,0.5,0.5,0.2,0.4", "not a number"),
        ("0 0.5 0.5 0.2 0.4 # me", "not a number"),
    ],
)
def test_a_malformed_label_is_named(dataset: Path, row: str, said: str) -> None:
    label = put(dataset.parent / "labels/val/a.txt", f"0 0.5 0.5 0.2 0.4\n\n{row}\n")
    complaint = refusal(dataset)
    assert complaint.startswith(f"{label}, line 3: ")
    assert said in complaint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have the keys `names` and `val`"),
        ("- a\n", "must have the keys `names` and `val`; it has list"),
        (NAMES, "must have the keys `names` and `val`; it has names"),
        ("val: images/val\n", "must have the keys `names` and `val`; it has val"),
        ("val: images/val\nnames: person\n", "`names` must be a list"),
        ("val: images/val\nnames:\n", "`names` must be a list"),
        ("val: images/val\nnames: {a: person}\n", "`names` must be a list"),
        ("val: images/val\nnames: {'0': person}\n", "`names` must be a list"),
        ("val: images/val\nnames: {0: null}\n", "`names` must be a list"),
        ("val: images/val\nnames: [[person]]\n", "`names` must be a list"),
        (f"val:\n{NAMES}", "`val` a folder"),
        (f"val: 5\n{NAMES}", "`val` a folder"),
        (f"val: {{a: b}}\n{NAMES}", "`val` a folder"),
        (f"val: [images/val, [images]]\n{NAMES}", "`val` a folder"),
        (f"path: 5\nval: images/val\n{NAMES}", "`path` must be a folder"),
        (f"path: [a]\nval: images/val\n{NAMES}", "`path` must be a folder"),
        (f"val: []\n{NAMES}", "val has no pictures"),
        (f"val: labels\n{NAMES}", "val has no pictures"),
        ("a: b: c\n", "is not a YAML file"),
        ("a: [\n", "is not a YAML file"),
        (NAMES.encode("utf-16"), "is not a YAML file"),
    ],
)
def test_a_malformed_data_yaml_is_named(dataset: Path, text: str | bytes, said: str) -> None:
    put(dataset, text)
    complaint = refusal(dataset)
    assert complaint.startswith(str(dataset))
    assert said in complaint


def test_missing_files_are_named(dataset: Path) -> None:
    root = dataset.parent
    assert str(root / "none.yaml") in refusal(root / "none.yaml")
    assert "is not a YAML file" in refusal(root)
    assert "`names` and `test`; it has path, val, names" in refusal(dataset, "test")
    put(dataset, f"val: images/none\n{NAMES}")
    assert str(root / "images/none") in refusal(dataset)
    put(dataset, f"val: list.txt\n{NAMES}")
    put(root / "list.txt", "images/val/a.jpg\nimages/val/none.jpg\n")
    assert str(root / "images/val/none.jpg") in refusal(dataset)
    put(root / "list.txt", b"\xff\xfe\x00")
    assert refusal(dataset) == f"{root}/list.txt is not a text file"


def test_files_that_are_not_pictures_or_text_are_named(dataset: Path) -> None:
    broken = dataset.parent / "images/val/b.png"
    for data in (b"", b"no picture", broken.read_bytes()[:60]):
        broken.write_bytes(data)
        assert refusal(dataset) == f"{broken} is not a complete JPEG or PNG image"
    broken.unlink()
    broken.symlink_to("gone.png")
    assert "cannot be read" in refusal(dataset)
    broken.unlink()
    label = put(dataset.parent / "labels/val/a.txt", b"\xff\xfe\x00")
    assert refusal(dataset) == f"{label} is not a text file"

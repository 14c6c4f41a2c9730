from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dataset_copies import HEIGHT, LENGTHS, ROWS, WIDTH, files_in, write_sequence

from motserve.config import VideoConfig
from motserve.errors import InvalidData, NotFound
from motserve.lab.datasets import PrepareOptions, prepare
from motserve.lab.datasets.catalogue import CATALOGUE, MotContents
from motserve.lab.datasets.mot import halves
from motserve.results import read_mot
from motserve.video import open_video


def coco(path: Path) -> Any:
    from pycocotools.coco import COCO

    return COCO(str(path))


def yolo_labels(folder: Path, split: str) -> dict[str, np.ndarray]:
    """Return the labels as Ultralytics reads them, by name of the picture; it must report no problem."""
    from motserve.models.libraries import import_ultralytics

    import_ultralytics()
    from ultralytics.data.utils import img2label_paths, verify_image_label

    labels = {}
    for picture in sorted((folder / "images" / split).iterdir()):
        (label,) = img2label_paths([str(picture)])
        read = verify_image_label((str(picture), label, "", False, 1, 0, 0, False))
        missing, present, empty, corrupt, complaint = read[5:]
        assert (missing, present, corrupt, complaint) == (0, 1, 0, "")
        assert empty == (len(read[1]) == 0)
        labels[picture.name] = read[1]
    return labels


@pytest.mark.usefixtures("published_catalogue")
def test_the_published_lengths_and_halves() -> None:
    contents = [CATALOGUE["mot17"], CATALOGUE["mot20"]]
    assert [sum(c.lengths.values()) for c in contents] == [5316, 8931]  # type: ignore[union-attr]
    # CenterTrack: frames 0 to n // 2 of each sequence to train on
    assert halves(600) == {"train": range(301), "val": range(301, 600)}
    assert halves(525) == {"train": range(263), "val": range(263, 525)}


def test_pictures_and_labels(prepared_mot17: Path, mot17: Path) -> None:
    names = {
        "train": [f"{name}_00000{frame}" for name in LENGTHS for frame in (1, 2, 3)],
        "val": ["MOT17-02_000004", "MOT17-02_000005", "MOT17-09_000004"],
    }
    for split, stems in names.items():
        assert files_in(prepared_mot17 / "images" / split) == [f"{stem}.jpg" for stem in stems]
        assert files_in(prepared_mot17 / "labels" / split) == [f"{stem}.txt" for stem in stems]
    link = prepared_mot17 / "images/val/MOT17-02_000004.jpg"
    assert link.is_symlink()
    assert link.resolve() == mot17 / "train/MOT17-02-FRCNN/img1/000004.jpg"
    assert link.read_bytes() == (mot17 / "train/MOT17-02-FRCNN/img1/000004.jpg").read_bytes()

    def pixels(split: str, name: str) -> list[list[float]]:
        labels = yolo_labels(prepared_mot17, split)[name]
        assert not labels[:, 0].any()
        size = np.array([WIDTH, HEIGHT])
        low, high = labels[:, 1:3] - labels[:, 3:] / 2, labels[:, 1:3] + labels[:, 3:] / 2
        return np.hstack([low * size, high * size]).round(2).tolist()

    # the oracle is the ground truth: origin 1 becomes 0, boxes end at the border
    assert pixels("train", "MOT17-02_000001.jpg") == [[0, 10, 10, 40], [30, 24, 40, 48]]
    assert pixels("train", "MOT17-02_000002.jpg") == [[0, 10, 1, 40]]
    assert pixels("train", "MOT17-02_000003.jpg") == []
    assert pixels("val", "MOT17-02_000005.jpg") == [[0, 0, 64, 48]]
    assert (prepared_mot17 / "labels/train/MOT17-02_000003.txt").read_bytes() == b""


def test_a_clipped_box_below_one_pixel_is_dropped(mot17: Path, tmp_path: Path) -> None:
    (mot17 / "train/MOT17-09-SDP/gt/gt.txt").write_text("1,1,-18.5,11,20,30,1,1,1\n1,2,5,5,9,9,1,1,1\n")
    prepare("mot17", mot17, tmp_path / "out")
    (line,) = (tmp_path / "out/labels/train/MOT17-09_000001.txt").read_text().splitlines()
    assert line == "0 0.132812 0.177083 0.140625 0.187500"


def test_coco_annotations_equal_the_ground_truth(prepared_mot17: Path, mot17: Path) -> None:
    expected: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    for line in ROWS.splitlines():
        if line:
            frame, track, left, top, width, height, flag, kind, visibility = map(float, line.split(","))
            if kind in (1, 7, 12):
                ignored = int(kind != 1 or flag == 0)
                row = (int(track), left - 1, top - 1, width, height, ignored, visibility)
                expected.setdefault(("MOT17-02", int(frame)), []).append(row)
    for frame in (1, 4):
        expected["MOT17-09", frame] = [(1, 10, 10, 20, 30, 0, 1)]
    read = {}
    for split in ("train", "val"):
        data = coco(prepared_mot17 / f"annotations/{split}.json")
        assert data.loadCats(data.getCatIds()) == [{"id": 1, "name": "person"}]
        assert min(data.getAnnIds(), default=1) == 1
        for image in data.loadImgs(data.getImgIds()):
            assert (prepared_mot17 / "images" / split / image["file_name"]).is_file()
            assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
            assert image["file_name"] == f"{image['video']}_{image['frame_id']:06d}.jpg"
            rows = data.loadAnns(data.getAnnIds(image["id"]))
            assert all(row["ignore"] == row["iscrowd"] and row["category_id"] == 1 for row in rows)
            assert all(row["area"] == row["bbox"][2] * row["bbox"][3] for row in rows)
            annotations = [(row["track_id"], *row["bbox"], row["iscrowd"], row["visibility"]) for row in rows]
            if annotations:
                read[image["video"], image["frame_id"]] = annotations
    assert read == expected


def test_non_motorised_vehicles_are_ignored_in_mot20_only() -> None:
    contents = [CATALOGUE["mot17"], CATALOGUE["mot20"]]
    assert [c.distractors for c in contents] == [{2, 7, 8, 12}, {2, 6, 7, 8, 12}]  # type: ignore[union-attr]


def test_both_halves_together_are_the_sequence(prepared_mot17: Path, mot17: Path) -> None:
    whole = [line for line in ROWS.splitlines() if line]
    together = []
    for split, start in (("train", 0), ("val", 3)):
        folder = prepared_mot17 / "sequences" / split / "MOT17-02"
        for line in (folder / "gt/gt.txt").read_text().splitlines():
            frame, _, rest = line.partition(",")
            together.append(f"{int(frame) + start},{rest}")
        table, source_table = read_mot(folder / "gt/gt.txt"), read_mot(mot17 / "train/MOT17-02-FRCNN/gt/gt.txt")
        rows = (source_table.frames >= start) & (source_table.frames < (3 if split == "train" else 5))
        assert table.frames.tolist() == (source_table.frames[rows] - start).tolist()
        assert table.boxes.tolist() == source_table.boxes[rows].tolist()
        assert table.classes.tolist() == source_table.classes[rows].tolist()
    assert sorted(together) == sorted(whole)
    assert together == [row for part in ("123", "45") for row in whole if row[0] in part], "in the order of the file"


def test_a_half_can_be_read_as_a_video(prepared_mot17: Path, mot17: Path) -> None:
    with open_video(prepared_mot17 / "sequences/val/MOT17-02", VideoConfig()) as video:
        assert (video.info.width, video.info.height, video.info.rate_hz) == (WIDTH, HEIGHT, 30)
        frames = list(video.frames())
    assert len(frames) == 2
    for frame, number in zip(frames, (4, 5), strict=True):
        original = cv2.imread(str(mot17 / f"train/MOT17-02-FRCNN/img1/{number:06d}.jpg"))
        assert np.array_equal(frame.image, original)
    assert (prepared_mot17 / "sequences/val/MOT17-02/seqinfo.ini").read_text() == (
        f"[Sequence]\nname=MOT17-02\nimDir=img1\nframeRate=30\nseqLength=2\nimWidth={WIDTH}\nimHeight={HEIGHT}\n"
        "imExt=.jpg\n"
    )


def test_ultralytics_loads_the_moved_data_set(prepared_mot17: Path) -> None:
    from motserve.models.libraries import import_ultralytics

    import_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    moved = prepared_mot17.rename(prepared_mot17.with_name("moved"))
    data = check_det_dataset(str(moved / "data.yaml"), autodownload=False)
    assert (data["train"], data["val"]) == (str(moved / "images/train"), str(moved / "images/val"))
    dataset = YOLODataset(img_path=data["val"], data=data, task="detect", imgsz=64, augment=False, hyp=get_cfg())
    assert [Path(label["im_file"]).name for label in dataset.labels] == files_in(moved / "images/val")
    assert [len(label["cls"]) for label in dataset.labels] == [1, 1, 1]


@pytest.mark.parametrize("layout", ["", "train"])
def test_the_source_may_be_the_data_set_or_its_train_folder(mot17: Path, tmp_path: Path, layout: str) -> None:
    manifest = prepare("mot17", mot17 / layout, tmp_path / "out")
    assert manifest.counts["train"] == {
        "sequences": 2, "pictures": 6, "identities": 4, "boxes": 5, "ignored": 1, "labels": 4,
    }  # fmt: skip
    assert manifest.counts["val"] == {
        "sequences": 2, "pictures": 3, "identities": 3, "boxes": 3, "ignored": 2, "labels": 3,
    }  # fmt: skip
    assert manifest.source["folders"] == {"MOT17-02": "MOT17-02-FRCNN", "MOT17-09": "MOT17-09-SDP"}


def test_the_preferred_complete_copy_is_used(mot17: Path, tmp_path: Path) -> None:
    train = mot17 / "train"
    shutil.copytree(train / "MOT17-02-FRCNN", train / "MOT17-02-DPM")
    shutil.copytree(train / "MOT17-02-FRCNN", train / "MOT17-02-SDP")
    (train / "MOT17-09-SDP").rename(train / "MOT17-09")
    (train / "MOT17-02-FRCNN/img1/000002.jpg").unlink()
    manifest = prepare("mot17", mot17, tmp_path / "out")
    assert manifest.source["folders"] == {"MOT17-02": "MOT17-02-SDP", "MOT17-09": "MOT17-09"}


@pytest.mark.parametrize("names", [("MOT17-09",), ("MOT17-09-DPM", "MOT17-09")])
def test_chosen_sequences(mot17: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    shutil.rmtree(mot17 / "train/MOT17-02-FRCNN")
    manifest = prepare("mot17", mot17, tmp_path / "out", PrepareOptions(sequences=names))
    assert manifest.left_out == ()
    assert files_in(tmp_path / "out/images/val") == ["MOT17-09_000004.jpg"]


def test_an_unknown_sequence_is_named(mot17: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no training sequence MOT17-01; it has MOT17-02, MOT17-09"):
        prepare("mot17", mot17, tmp_path / "out", PrepareOptions(sequences=("MOT17-01",)))


def test_all_missing_files_are_named_at_once(mot17: Path, tmp_path: Path) -> None:
    first = mot17 / "train/MOT17-02-FRCNN"
    for frame in (2, 5):
        (first / f"img1/{frame:06d}.jpg").unlink()
    (first / "img1/000003.jpg").write_bytes(b"")
    (first / "gt/gt.txt").unlink()
    (mot17 / "train/MOT17-09-SDP/seqinfo.ini").unlink()
    shutil.rmtree(mot17 / "train/MOT17-09-SDP/img1")
    with pytest.raises(InvalidData) as caught:
        prepare("mot17", mot17, tmp_path / "out")
    for message in (
        "MOT17-02-FRCNN: gt/gt.txt is missing",
        "MOT17-02-FRCNN: img1 lacks 3 of 5 pictures: 000002, 000003, 000005",
        "MOT17-09-SDP: seqinfo.ini is missing",
        "MOT17-09-SDP: img1 with its 4 pictures is missing",
    ):
        assert message in str(caught.value)
    assert files_in(tmp_path) == [f"MOT17/{name}" for name in files_in(mot17)]


def test_a_missing_sequence_is_named(mot17: Path, tmp_path: Path) -> None:
    shutil.rmtree(mot17 / "train/MOT17-09-SDP")
    message = r"MOT17: MOT17-09: the folder MOT17-09-FRCNN is missing, and its other copies too.*--allow-missing"
    with pytest.raises(InvalidData, match=message):
        prepare("mot17", mot17, tmp_path / "out")


def test_allow_missing_prepares_the_complete_sequences(mot17: Path, tmp_path: Path) -> None:
    (mot17 / "train/MOT17-02-FRCNN/img1/000005.jpg").unlink()
    manifest = prepare("mot17", mot17, tmp_path / "out", PrepareOptions(allow_missing=True))
    assert manifest.left_out == ("MOT17-02-FRCNN: img1 lacks 1 of 5 pictures: 000005",)
    assert files_in(tmp_path / "out/sequences/val") == [
        "MOT17-09/gt/gt.txt",
        "MOT17-09/img1/000001.jpg",
        "MOT17-09/seqinfo.ini",
    ]
    (mot17 / "train/MOT17-09-SDP/gt/gt.txt").write_text("")
    with pytest.raises(InvalidData, match=r"nothing in .* can be used as MOT17: .*; MOT17-09-SDP: gt/gt.txt is empty"):
        prepare("mot17", mot17, tmp_path / "none", PrepareOptions(allow_missing=True))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("", "seqinfo.ini cannot be read"),
        ("[Sequence]\nframeRate=30\nseqLength=five\nimWidth=64\nimHeight=48", "seqinfo.ini cannot be read"),
        ("[Sequence]\nframeRate=30\nimWidth=64\nimHeight=48", "seqLength"),
        ("[Sequence]\nframeRate=30\nseqLength=6\nimWidth=64\nimHeight=48", "says 6 frames where the sequence has 5"),
        ("[Sequence]\nframeRate=0\nseqLength=5\nimWidth=64\nimHeight=48", "not positive"),
        ("[Sequence]\nframeRate=30\nseqLength=5\nimWidth=48\nimHeight=64", "000001.jpg is 64x48 where seqinfo.ini"),
        (None, "seqinfo.ini is missing"),
    ],
)
def test_a_wrong_seqinfo_is_named(mot17: Path, tmp_path: Path, info: str | None, message: str) -> None:
    path = mot17 / "train/MOT17-02-FRCNN/seqinfo.ini"
    path.unlink() if info is None else path.write_text(info)
    with pytest.raises(InvalidData, match=rf"MOT17-02-FRCNN: .*{message}"):
        prepare("mot17", mot17, tmp_path / "out")


@pytest.mark.parametrize("separator", [";", "\t", " "])
def test_ground_truth_with_other_separators_is_written_with_commas(mot17: Path, tmp_path: Path, separator: str) -> None:
    prepare("mot17", mot17, tmp_path / "plain")
    for path in mot17.glob("train/*/gt/gt.txt"):
        path.write_text(path.read_text().replace(",", separator))
    prepare("mot17", mot17, tmp_path / "out")
    for path in (tmp_path / "plain").glob("sequences/*/*/gt/gt.txt"):
        other = tmp_path / "out" / path.relative_to(tmp_path / "plain")
        assert other.read_text() == path.read_text()


def test_unexpected_pictures_are_named(mot17: Path, tmp_path: Path) -> None:
    folder = mot17 / "train/MOT17-02-FRCNN/img1"
    for name in ("000006.jpg", "cover.png", "1.jpg"):
        shutil.copy(folder / "000001.jpg", folder / name)
    (folder / "._000001.jpg").write_bytes(b"file of another system")
    with pytest.raises(InvalidData, match=r"img1 holds 3 pictures besides its 5 frames: 000006.jpg, 1.jpg, cover.png"):
        prepare("mot17", mot17, tmp_path / "out")


def test_a_broken_picture_is_named(mot17: Path, tmp_path: Path) -> None:
    (mot17 / "train/MOT17-02-FRCNN/img1/000001.jpg").write_bytes(b"<html>not found</html>")
    with pytest.raises(InvalidData, match=r"MOT17-02-FRCNN: 000001.jpg is not a complete JPEG or PNG image"):
        prepare("mot17", mot17, tmp_path / "out")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,1,1,1,9,9,1,1,1\n2,1,1,x,9,9,1,1,1\n", "gt.txt, line 2: a field is not a number"),
        ("1,1,1,1,9,9,1,1,1\n\n6,1,1,1,9,9,1,1,1\n", "gt.txt, line 3: the frame is beyond the 5 frames"),
        ("1,1,1,1,9,9,1,-1,-1,-1\n", "gt.txt has 10 columns"),
    ],
)
def test_malformed_ground_truth_names_file_and_line(mot17: Path, tmp_path: Path, rows: str, message: str) -> None:
    (mot17 / "train/MOT17-02-FRCNN/gt/gt.txt").write_text(rows)
    with pytest.raises(InvalidData, match=f"MOT17-02-FRCNN/gt/{message}"):
        prepare("mot17", mot17, tmp_path / "new/out", PrepareOptions(allow_missing=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MOT17"]


def test_the_content_of_a_wrong_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "test/MOT17-01-FRCNN").mkdir(parents=True)
    with pytest.raises(InvalidData, match=r"is not MOT17: .*MOT17-02-FRCNN, MOT17-09-FRCNN; it holds test/"):
        prepare("mot17", tmp_path, tmp_path.parent / "out")


def test_mot20_folders_have_no_detector_in_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = CATALOGUE["mot20"]
    assert isinstance(contents, MotContents)
    monkeypatch.setitem(
        CATALOGUE, "mot20", MotContents("MOT20", {"MOT20-01": 2}, contents.copies, contents.distractors)
    )
    write_sequence(tmp_path / "MOT20-01", 2, "1,1,5,5,9,9,0,6,1\n2,1,5,5,9,9,1,1,1\n")
    manifest = prepare("mot20", tmp_path, tmp_path.parent / f"{tmp_path.name}_out")
    assert manifest.counts["train"]["ignored"] == 1
    shutil.rmtree(tmp_path / "MOT20-01")
    (tmp_path / "train").mkdir()
    with pytest.raises(InvalidData, match="is not MOT20"):
        prepare("mot20", tmp_path, tmp_path / "out")


@pytest.mark.usefixtures("published_catalogue")
def test_real_ground_truth_without_pictures_is_refused(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData) as caught:
        prepare("mot17", data_dir / "mot_gt/MOT17", tmp_path / "out")
    message = str(caught.value)
    assert "MOT17-11: the folder MOT17-11-FRCNN is missing" in message
    for name, length in {"02": 600, "04": 1050, "05": 837, "09": 525, "10": 654, "13": 750}.items():
        assert f"MOT17-{name}: img1 with its {length} pictures is missing" in message
    assert files_in(tmp_path) == []

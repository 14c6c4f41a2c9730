from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import yaml
from dataset_copies import files_in

from motserve.errors import InvalidData
from motserve.lab.datasets import PrepareOptions, prepare
from motserve.lab.datasets.catalogue import CATALOGUE, ReidContents
from motserve.lab.datasets.reid import held_out
from motserve.lab.evaluation.reid_names import parse_reid_name


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("published_catalogue")
def test_the_published_numbers_of_pictures() -> None:
    pictures = {
        kind: [folder.pictures for folder in contents.folders.values()]
        for kind, contents in CATALOGUE.items()
        if isinstance(contents, ReidContents)
    }
    assert pictures == {"market1501": [12_936, 3_368, 19_732], "dukemtmc": [16_522, 2_228, 17_661]}


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1)),
        ("1501_c6s4_001902_00.jpg", (1501, 6)),
        ("-1_c3s2_000001_01.jpg", (-1, 3)),
        ("0000_c3s2_000001_01.jpg", (0, 3)),
        ("0005_c2_f0046985.jpg", (5, 2)),
        ("0001_c1s1_000002_01.png", (1, 1)),
        ("-2_c3s2_000001_01.jpg", None),
        ("0002_c1.jpg", None),
        ("0002_s1_000451_03.jpg", None),
        ("0002_c1s1_000451_03", (2, 1)),
        ("0005_c2_0046985.jpg", (5, 2)),
        ("person.jpg", None),
    ],
)
def test_identity_and_camera_are_parsed_from_names(name: str, parsed: tuple[int, int] | None) -> None:
    assert parse_reid_name(name) == parsed


def test_the_folder_that_macos_adds_to_archives_is_ignored(market: Path, tmp_path: Path) -> None:
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (market.parent / "__MACOSX" / folder).mkdir(parents=True)
        (market / folder / "._0002_c1s1_000451_03.jpg").write_bytes(b"no picture")
    manifest = prepare("market1501", market.parent, tmp_path / "index/out", PrepareOptions(held_out_share=0.25))
    assert Path(manifest.root) == market


@pytest.mark.parametrize("level", ["Market-1501-v15.09.15", "."])
def test_the_index_names_every_crop(market: Path, tmp_path: Path, level: str) -> None:
    out = tmp_path / "index/out"
    manifest = prepare("market1501", tmp_path / level, out, PrepareOptions(held_out_share=0.25))
    assert files_in(out) == [
        "dataset.yaml", "gallery.csv", "manifest.json", "query.csv", "train.csv", "validation.csv",
    ]  # fmt: skip
    tables = {name: rows_of(out / f"{name}.csv") for name in ("train", "validation", "query", "gallery")}
    for name, folder in (("query", "query"), ("gallery", "bounding_box_test")):
        assert [row["path"] for row in tables[name]] == [
            f"{folder}/{file}" for file in files_in(market / folder) if file.endswith(".jpg")
        ]
    training = tables["train"] + tables["validation"]
    assert sorted(row["path"] for row in training) == [
        f"bounding_box_train/{file}" for file in files_in(market / "bounding_box_train")
    ]
    for row in training + tables["query"] + tables["gallery"]:
        assert list(row) == ["path", "identity", "camera", "label"]
        assert (market / row["path"]).is_file()
        assert parse_reid_name(Path(row["path"]).name) == (int(row["identity"]), int(row["camera"]))
    people = {row["identity"] for row in tables["train"]}
    assert len(people) == 3
    assert people.isdisjoint(row["identity"] for row in tables["validation"])
    labels = {row["identity"]: int(row["label"]) for row in tables["train"]}
    assert sorted(labels.values()) == [0, 1, 2]
    assert sorted(labels, key=int) == sorted(labels, key=labels.__getitem__)
    assert {row["label"] for name in ("validation", "query", "gallery") for row in tables[name]} == {"-1"}
    assert manifest.counts["gallery"] == {
        "pictures": 5, "identities": 2, "cameras": 4, "distractors": 1, "junk": 1,
    }  # fmt: skip
    assert yaml.safe_load((out / "dataset.yaml").read_text()) == {
        "kind": "market1501",
        "root": str(market),
        "counts": manifest.counts,
    }


def test_seed_and_share_select_the_held_out_people() -> None:
    people = range(1, 752)
    first = held_out(people, 0, 0.1)
    assert len(first) == 75
    assert first == held_out(reversed(people), 0, 0.1)
    assert first != held_out(people, 1, 0.1)
    assert held_out(people, 0, 0.05) < first
    assert held_out(range(1, 500), 0, 0.1) & set(people) <= first | held_out(people, 0, 0.2)
    assert held_out(people, 0, 0) == set()
    assert len(held_out([4, 5], 0, 0.01)) == 1
    assert len(held_out([4, 5], 0, 0.99)) == 1
    assert held_out([4], 0, 0.5) == set()


def test_without_a_share_all_people_are_for_training(market: Path, tmp_path: Path) -> None:
    prepare("market1501", market, tmp_path / "out", PrepareOptions(held_out_share=0))
    assert len(rows_of(tmp_path / "out/train.csv")) == 12
    assert rows_of(tmp_path / "out/validation.csv") == []
    with pytest.raises(ValueError, match="held_out_share"):
        prepare("market1501", market, tmp_path / "none", PrepareOptions(held_out_share=1))


def test_missing_files_are_named(market: Path, tmp_path: Path) -> None:
    shutil.rmtree(market / "query")
    (market / "bounding_box_test/0005_c4_f0046999.jpg").unlink()
    for crop in (market / "bounding_box_train").glob("0011_*"):
        crop.unlink()
    messages = [
        "bounding_box_train has 9 pictures where 12 were published",
        "bounding_box_train has 3 people where 4 were published",
        "query is missing",
        "bounding_box_test has 4 pictures where 5 were published",
    ]
    with pytest.raises(InvalidData, match="; ".join(messages)):
        prepare("market1501", market, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    manifest = prepare("market1501", market, tmp_path / "out", PrepareOptions(allow_missing=True))
    assert list(manifest.left_out) == messages
    assert not (tmp_path / "out/query.csv").exists()
    assert len(rows_of(tmp_path / "out/gallery.csv")) == 4


def test_a_malformed_name_is_refused(market: Path, tmp_path: Path) -> None:
    shutil.copy(market / "query/0001_c1s1_000451_03.jpg", market / "query/me.jpg")
    with pytest.raises(InvalidData, match=r"query/me.jpg: the name is not of the form 0002_c1s1"):
        prepare("market1501", market, tmp_path / "out")


@pytest.mark.parametrize("name", ["-1_c1s1_000401_03.jpg", "0000_c1s1_000401_03.jpg"])
def test_distractors_and_junk_in_the_training_set_are_refused(market: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(market / "query/0001_c1s1_000451_03.jpg", market / "bounding_box_train" / name)
    with pytest.raises(InvalidData, match=rf"bounding_box_train/{name} is a distractor or junk"):
        prepare("market1501", market, tmp_path / "out")


def test_an_empty_picture_is_named(market: Path, tmp_path: Path) -> None:
    (market / "query/0001_c1s1_000451_03.jpg").write_bytes(b"")
    with pytest.raises(InvalidData, match=r"query/0001_c1s1_000451_03.jpg is empty"):
        prepare("market1501", market, tmp_path / "out", PrepareOptions(allow_missing=True))


def test_the_content_of_a_wrong_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InvalidData, match=r"no bounding_box_train, query, bounding_box_test .*it holds notes.txt"):
        prepare("market1501", tmp_path, tmp_path.parent / "out")
    (tmp_path / "query").mkdir()
    with pytest.raises(InvalidData, match=r"nothing in .* can be used as Market-1501: .*query is missing"):
        prepare("market1501", tmp_path, tmp_path / "out", PrepareOptions(allow_missing=True))


@pytest.mark.usefixtures("published_catalogue")
def test_real_crops(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "reid_images/PKU-Reid-74"
    with pytest.raises(InvalidData, match="bounding_box_train is missing"):
        prepare("market1501", source, tmp_path / "out")
    manifest = prepare("market1501", source, tmp_path / "out", PrepareOptions(allow_missing=True))
    assert manifest.left_out[0] == "bounding_box_train is missing"
    assert manifest.counts["query"]["pictures"] == len(rows_of(tmp_path / "out/query.csv")) == 148
    assert manifest.counts["gallery"]["pictures"] == 1036
    assert manifest.counts["query"]["identities"] == manifest.counts["gallery"]["identities"] == 74
    assert all((source / row["path"]).is_file() for row in rows_of(tmp_path / "out/gallery.csv"))

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from motserve.config import EvaluationConfig, ReIDConfig
from motserve.errors import InvalidData, NotFound
from motserve.lab.evaluation.reid_data import CropTable, Protocol, read_crops, read_protocol
from motserve.lab.evaluation.retrieval import RetrievalScores, cosine_rows, score_retrieval
from motserve.models.weights import Weights
from motserve.reid import build_embedder


def fill(folder: Path, names: Iterable[str]) -> None:
    """Create empty files; their labels are in the names."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def rows(table: CropTable) -> list[tuple[str, int, int]]:
    names = [path.name for path in table.paths]
    return list(zip(names, table.identities.tolist(), table.cameras.tolist(), strict=True))


def test_market_1501_is_labelled_by_its_file_names(tmp_path: Path) -> None:
    fill(tmp_path / "query", ["0002_c1s1_000451_03.jpg", "0001_c6s4_001902_00.png", "Thumbs.db", "._0001_c1s1_1_1.jpg"])
    fill(tmp_path / "bounding_box_test", ["-1_c2s3_000917_00.jpg", "0000_c3s1_000151_01.JPEG", "1501_c5s1_1_1.jpg"])
    query, gallery = read_protocol(tmp_path, "market1501")
    assert rows(query) == [("0001_c6s4_001902_00.png", 1, 6), ("0002_c1s1_000451_03.jpg", 2, 1)]
    assert rows(gallery) == [
        ("-1_c2s3_000917_00.jpg", -1, 2),
        ("0000_c3s1_000151_01.JPEG", 0, 3),
        ("1501_c5s1_1_1.jpg", 1501, 5),
    ]
    assert query.paths[0] == tmp_path / "query" / "0001_c6s4_001902_00.png"
    assert query.identities.dtype == query.cameras.dtype == np.int64


def test_dukemtmc_is_labelled_by_its_file_names(tmp_path: Path) -> None:
    fill(tmp_path, ["query/0005_c2_f0046985.jpg", "bounding_box_test/7139_c8_f0046985.jpg"])
    query, gallery = read_protocol(str(tmp_path), "dukemtmc")
    assert rows(query) == [("0005_c2_f0046985.jpg", 5, 2)]
    assert rows(gallery) == [("7139_c8_f0046985.jpg", 7139, 8)]


@pytest.mark.parametrize(
    "name", ["person.jpg", "0002.jpg", "0002_c1.jpg", "-2_c1s1_1_1.jpg", "0002_cs1_1_1.jpg", f"{10**20}_c1s1_1_1.jpg"]
)
@pytest.mark.parametrize("protocol", ["market1501", "dukemtmc", "cross-camera"])
def test_a_file_name_without_labels_is_refused(tmp_path: Path, protocol: Protocol, name: str) -> None:
    fill(tmp_path, ["query/0001_c1s1_1_1.jpg", "bounding_box_test/0001_c2s1_1_1.jpg", f"bounding_box_test/{name}"])
    with pytest.raises(InvalidData, match=f"bounding_box_test/{name}: the name must give identity and camera"):
        read_protocol(tmp_path, protocol)


QUERY_LIST = "0000/0000_000_01_0303morning_0008_0.jpg 0\n"
GALLERY_LIST = "0000/0000_005_14_0303morning_0020_1.jpg 0\n\n0007/0007_001_02_0302noon_0001_0.jpg 7\n"


def fill_msmt17(root: Path, pictures: str = "test", query: str = QUERY_LIST, gallery: str = GALLERY_LIST) -> None:
    fill(root / pictures, [line.split()[0] for line in (QUERY_LIST + GALLERY_LIST).splitlines() if line])
    (root / "list_query.txt").write_text(query)
    (root / "list_gallery.txt").write_text(gallery)


@pytest.mark.parametrize("pictures", ["test", "mask_test_v2"])
def test_msmt17_is_labelled_by_its_lists_and_people_start_at_one(tmp_path: Path, pictures: str) -> None:
    fill_msmt17(tmp_path, pictures)
    query, gallery = read_protocol(tmp_path, "msmt17")
    assert rows(query) == [("0000_000_01_0303morning_0008_0.jpg", 1, 1)]
    assert rows(gallery) == [
        ("0000_005_14_0303morning_0020_1.jpg", 1, 14),
        ("0007_001_02_0302noon_0001_0.jpg", 8, 2),
    ]
    assert all(path.is_file() for path in (*query.paths, *gallery.paths))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_000_01_0303morning_0008_0.jpg", "expected a picture and its person"),
        ("0000/0000_000_01_0303morning_0008_0.jpg one", "expected a picture and its person"),
        ("0000/0000_000_01_0303morning_0008_0.jpg -1", "expected a picture and its person"),
        ("0000/0000_000_0303morning_0008_0.jpg 0", "expected a picture and its person"),
        ("0000/0000_009_01_0303morning_0008_0.jpg 0", "there is no picture .*0000_009_01_0303morning_0008_0.jpg"),
    ],
)
def test_a_bad_line_of_a_list_is_refused_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    fill_msmt17(tmp_path, gallery=f"{QUERY_LIST}\n{line}\n")
    with pytest.raises(InvalidData, match=f"list_gallery.txt, line 3: {message}"):
        read_protocol(tmp_path, "msmt17")


def test_a_list_that_is_not_text_is_refused(tmp_path: Path) -> None:
    fill_msmt17(tmp_path)
    (tmp_path / "list_gallery.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidData, match=r"list_gallery.txt is not a text file"):
        read_protocol(tmp_path, "msmt17")


def test_msmt17_without_its_pictures_is_refused(tmp_path: Path) -> None:
    fill_msmt17(tmp_path, pictures="pictures")
    with pytest.raises(NotFound, match=r"no folder test or mask_test_v2 of pictures; it has .*pictures/"):
        read_protocol(tmp_path, "msmt17")


def test_across_cameras_the_first_camera_is_the_query_and_the_others_the_gallery(tmp_path: Path) -> None:
    fill(tmp_path / "query", ["0001_c2s1_1_1.jpg", "0002_c4s1_1_1.jpg", "0000_c1s1_1_1.jpg", "-1_c2s1_1_1.jpg"])
    fill(tmp_path / "bounding_box_test", ["0001_c3s1_1_1.jpg", "0003_c2s1_1_1.jpg", "-1_c3s1_1_1.jpg"])
    query, gallery = read_protocol(tmp_path, "cross-camera")
    # camera 1 has no people, so camera 2 is the first; its junk is no query
    assert rows(query) == [("0001_c2s1_1_1.jpg", 1, 2), ("0003_c2s1_1_1.jpg", 3, 2)]
    assert rows(gallery) == [
        ("0000_c1s1_1_1.jpg", 0, 1),
        ("0002_c4s1_1_1.jpg", 2, 4),
        ("-1_c3s1_1_1.jpg", -1, 3),
        ("0001_c3s1_1_1.jpg", 1, 3),
    ]


def test_across_cameras_crops_may_be_in_the_folder_itself(tmp_path: Path) -> None:
    fill(tmp_path, ["0001_c1s1_1_1.jpg", "0001_c2s1_1_1.jpg", "notes.txt", "more/readme.jpg"])
    query, gallery = read_protocol(tmp_path, "cross-camera")
    assert rows(query) == [("0001_c1s1_1_1.jpg", 1, 1)]
    assert rows(gallery) == [("0001_c2s1_1_1.jpg", 1, 2)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_c4s1_1_1.jpg", "0002_c4s1_1_1.jpg"], "all 2 crops are of camera 4"),
        (["0000_c1s1_1_1.jpg", "-1_c2s1_1_1.jpg"], "no crops of people .*; it has -1_c2s1_1_1.jpg"),
        (["train/0001_c1s1_1_1.jpg"], r"no crops of people \(.jpeg, .jpg, .png\) in .*; it has train/"),
        ([], "it is empty"),
    ],
)
def test_across_cameras_needs_people_and_two_cameras(tmp_path: Path, names: list[str], message: str) -> None:
    fill(tmp_path, names)
    with pytest.raises(InvalidData, match=message):
        read_protocol(tmp_path, "cross-camera")


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("market1501", "not laid out as market1501: it has no query and no bounding_box_test; it has Market-1501/, a0"),
        ("dukemtmc", "not laid out as dukemtmc: it has no query and no bounding_box_test; it has .* and 4 more"),
        ("msmt17", r"not laid out as msmt17: it has no list_query.txt and no list_gallery.txt; it has Market-1501/"),
    ],
)
def test_a_folder_of_another_layout_is_refused_with_its_content(
    tmp_path: Path, protocol: Protocol, message: str
) -> None:
    fill(tmp_path, ["Market-1501/query/0001_c1s1_1_1.jpg", *(f"a{number:02}.txt" for number in range(11))])
    with pytest.raises(NotFound, match=message):
        read_protocol(tmp_path, protocol)


def test_only_what_is_missing_is_named(tmp_path: Path) -> None:
    fill(tmp_path, ["query/0001_c1s1_1_1.jpg"])
    with pytest.raises(NotFound, match="it has no bounding_box_test; it has query/"):
        read_protocol(tmp_path, "market1501")


@pytest.mark.parametrize("protocol", ["market1501", "dukemtmc", "msmt17", "cross-camera"])
def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, protocol: Protocol) -> None:
    with pytest.raises(NotFound, match=r"there is no folder .*nowhere"):
        read_protocol(tmp_path / "nowhere", protocol)


@pytest.mark.parametrize("empty", ["query", "bounding_box_test"])
def test_queries_and_gallery_may_not_be_empty(tmp_path: Path, empty: str) -> None:
    fill(tmp_path, ["query/0001_c1s1_1_1.jpg", "bounding_box_test/0001_c2s1_1_1.jpg"])
    next((tmp_path / empty).iterdir()).rename(tmp_path / empty / "Thumbs.db")
    with pytest.raises(InvalidData, match=f"{empty} has no crops; market1501 needs queries and a gallery"):
        read_protocol(tmp_path, "market1501")
    fill_msmt17(tmp_path, query="\n")
    with pytest.raises(InvalidData, match=r"list_query.txt has no crops"):
        read_protocol(tmp_path, "msmt17")


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 crops need identities \(n,\)"):
        CropTable((Path("a"), Path("b")), np.zeros(2, np.int64), np.zeros(3, np.int64))


def picture(path: Path, height: int = 40, width: int = 20) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (4, 2, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(path), image)
    return image


def test_crops_are_read_in_their_order_and_stretched(tmp_path: Path) -> None:
    small, wide, photo = tmp_path / "small.png", tmp_path / "wide.png", tmp_path / "photo.jpg"
    first, second, third = picture(small), picture(wide, 30, 90), picture(photo, 64, 32)
    crops = read_crops([small, wide, photo], 64, 32)
    assert crops.shape == (3, 64, 32, 3)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops[0], cv2.resize(first, (32, 64)))
    np.testing.assert_array_equal(crops[1], cv2.resize(second, (32, 64)))
    assert np.abs(crops[2].astype(int) - third).mean() < 8
    assert read_crops([], 64, 32).shape == (0, 64, 32, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("broken", ["cut off", "empty", "text", "header only", "scrambled"])
def test_a_broken_image_is_refused_by_name(tmp_path: Path, suffix: str, broken: str) -> None:
    good, bad = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    picture(good)
    data = good.read_bytes()
    at = len(data) // 2
    bad.write_bytes(
        {
            "cut off": data[:at],
            "empty": b"",
            "text": b"not an image",
            "header only": data[:8],
            "scrambled": data[:16] + bytes(20) + data[36:],
        }[broken]
    )
    with pytest.raises(InvalidData, match=f"bad{suffix}"):
        read_crops([good, bad], 64, 32)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*away.jpg"):
        read_crops([tmp_path / "away.jpg"], 64, 32)
    with pytest.raises(InvalidData, match=f"{tmp_path.name} cannot be read"):
        read_crops([tmp_path], 64, 32)


def measured(data_dir: Path, model: str, protocol: Protocol) -> RetrievalScores:
    """Scores of a real embedder on crops of 74 people, eight views of each per camera."""
    path = data_dir / "models" / "reid" / f"{model}.onnx"
    config = ReIDConfig(device="cpu", onnx_input="bgr255")
    embedder = build_embedder(config, Weights(path.name, path, "", ""))
    tables = read_protocol(data_dir / "reid_images" / "PKU-Reid-74", protocol)
    query, gallery = (
        embedder.embed(read_crops(table.paths, config.crop_height, config.crop_width)) for table in tables
    )
    return score_retrieval(cosine_rows(query, gallery, EvaluationConfig().query_batch), *tables)


@pytest.mark.parametrize(
    ("model", "protocol", "rank1", "mean_ap", "queries"),
    [
        ("person-reidentification-retail-0288", "cross-camera", 0.787, 0.626, 592),
        ("person-reidentification-retail-0288", "market1501", 0.378, 0.286, 148),
        pytest.param("person-reidentification-retail-0286", "cross-camera", 0.941, 0.821, 592, marks=pytest.mark.slow),
        pytest.param("person-reidentification-retail-0286", "market1501", 0.649, 0.505, 148, marks=pytest.mark.slow),
    ],
)
def test_a_real_embedder_has_its_known_scores(
    data_dir: Path, model: str, protocol: Protocol, rank1: float, mean_ap: float, queries: int
) -> None:
    scores = measured(data_dir, model, protocol)
    assert (scores.queries, scores.skipped) == (queries, 0)
    assert scores.rank1 == pytest.approx(rank1, abs=2e-3)
    assert scores.mean_ap == pytest.approx(mean_ap, abs=2e-3)

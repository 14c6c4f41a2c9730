from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from motserve.base import ReIDBase
from motserve.config import Config, change_config, load_config
from motserve.errors import InvalidData, NotFound
from motserve.lab.evaluation.rerank import rerank_rows
from motserve.lab.evaluation.retrieval import cosine_rows, score_retrieval
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.crops import embed_crops, load_crops, score_embedder
from motserve.lab.experiments.models import Models
from motserve.models.provenance import describe_files
from motserve.types import FloatArray

COLOURS = {1: (220, 20, 20), 2: (20, 220, 20), 3: (20, 20, 220), 4: (200, 200, 20), 5: (20, 200, 200)}


def write_crop(path: Path, colour: Sequence[int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-20, 20, (48, 24, 3))
    cv2.imwrite(str(path), np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """Five people, each in one colour, from two cameras; a distractor and junk in the gallery."""
    root = tmp_path / "market"
    for person, colour in COLOURS.items():
        write_crop(root / "query" / f"{person:04}_c1s1_{person:06}_00.png", colour, person)
        for view in range(2):
            write_crop(root / "bounding_box_test" / f"{person:04}_c2s1_{view:06}_00.png", colour, 10 * person + view)
    write_crop(root / "bounding_box_test" / "0000_c2s1_000009_00.png", (128, 128, 128), 100)
    write_crop(root / "bounding_box_test" / "-1_c2s1_000009_00.png", COLOURS[1], 101)
    return root


class Colours(ReIDBase):
    """Embeds the mean colour of a crop and counts the crops."""

    dimension = 3

    def __init__(self, stops_after: int = 1_000_000) -> None:
        self.batches: list[int] = []
        self._stops_after = stops_after

    def embed(self, crops: np.ndarray) -> FloatArray:
        self.batches.append(len(crops))
        if sum(self.batches) > self._stops_after:
            raise KeyboardInterrupt
        mean = crops.reshape(len(crops), -1, 3).mean(axis=1)
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration whose weights are a file with arbitrary content."""
    (tmp_path / "reid.onnx").write_bytes(b"weights")
    return load_config([{"reid": {"weights": str(tmp_path / "reid.onnx"), "batch_size": 4, "crop_height": 64}}])


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> Colours:
    colours = Colours()
    monkeypatch.setattr("motserve.lab.experiments.models.build_embedder", lambda *_: colours)
    return colours


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_scores_equal_those_of_the_embeddings(market: Path, config: Config, embedder: Colours, cache: Cache) -> None:
    crops = load_crops(market, "market1501")
    assert (len(crops.query), len(crops.gallery)) == (5, 11)
    plain, reranked = score_embedder(crops, Models(config), cache)
    assert reranked is None
    assert plain.as_dict()["Rank-1"] == plain.as_dict()["mAP"] == 1
    query, gallery = (
        embed_crops(table, crops.data[part]["sha256"], Models(config), cache, part)
        for part, table in (("query", crops.query), ("gallery", crops.gallery))
    )
    assert plain == score_retrieval(cosine_rows(query, gallery, 2), crops.query, crops.gallery)
    again, reranked = score_embedder(crops, Models(config), cache, rerank=True)
    rows = rerank_rows(query, gallery, config.evaluation.rerank, config.evaluation.query_batch)
    assert (again, reranked) == (plain, score_retrieval(rows, crops.query, crops.gallery))


def test_junk_is_not_embedded_and_batches_have_the_configured_size(
    market: Path, config: Config, embedder: Colours, cache: Cache
) -> None:
    reports = []
    score_embedder(load_crops(market, "market1501"), Models(config), cache, progress=lambda *what: reports.append(what))
    assert embedder.batches == [4, 1, 4, 4, 3]
    assert reports == [("query", 4, 5), ("query", 5, 5), ("gallery", 4, 11), ("gallery", 8, 11), ("gallery", 11, 11)]


def test_cached_embeddings_need_neither_embedder_nor_pictures(
    market: Path, config: Config, embedder: Colours, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = load_crops(market, "market1501")
    first = embed_crops(crops.gallery, crops.data["gallery"]["sha256"], Models(config), cache, "gallery")
    scores = score_embedder(crops, Models(config), cache)

    def fail(*arguments: object) -> None:
        raise AssertionError("the cache has the answer")

    monkeypatch.setattr("motserve.lab.experiments.models.build_embedder", fail)
    monkeypatch.setattr("motserve.lab.experiments.crops.read_crops", fail)
    crops = load_crops(market, "market1501")
    cached = embed_crops(crops.gallery, crops.data["gallery"]["sha256"], Models(config), cache, "gallery", fail)
    assert (cached.dtype, cached.shape, cached.tobytes()) == (np.float32, (11, 3), first.tobytes())
    assert score_embedder(crops, Models(config), cache) == scores
    moved = market.rename(market.parent / "elsewhere")
    assert score_embedder(load_crops(moved, "market1501"), Models(config), cache) == scores


def test_a_change_of_inputs_embeds_again(market: Path, config: Config, embedder: Colours, cache: Cache) -> None:
    def embedded(settings: Config = config) -> int:
        before = sum(embedder.batches)
        score_embedder(load_crops(market, "market1501"), Models(settings), cache)
        return sum(embedder.batches) - before

    assert [embedded(), embedded()] == [16, 0]
    assert embedded(change_config(config, {"reid": {"crop_width": 64}})) == 16
    assert embedded(change_config(config, {"reid": {"max_distance": 0.1, "batch_size": 7}})) == 0
    write_crop(market / "query" / "0001_c1s1_000001_00.png", COLOURS[2], 77)
    assert embedded() == 5
    (market / "bounding_box_test" / "0005_c2s1_000000_00.png").unlink()
    assert embedded() == 10
    write_crop(market / "bounding_box_test" / "-1_c2s1_000010_00.png", COLOURS[1], 5)
    assert embedded() == 0
    Path(config.reid.weights[0]).write_bytes(b"trained on")
    assert embedded() == 15


def test_cached_embeddings_follow_the_order_of_the_crops(
    market: Path, config: Config, embedder: Colours, cache: Cache
) -> None:
    gallery = load_crops(market, "market1501").gallery
    sha256 = str(describe_files(gallery.paths, market)["sha256"])
    reversed_table = type(gallery)(gallery.paths[::-1], gallery.identities[::-1], gallery.cameras[::-1])
    assert describe_files(reversed_table.paths, market)["sha256"] == sha256
    forward = embed_crops(gallery, sha256, Models(config), cache, "gallery")
    backward = embed_crops(reversed_table, sha256, Models(config), cache, "gallery")
    np.testing.assert_array_equal(backward, forward[::-1])


def test_a_damaged_file_is_computed_again(
    market: Path,
    config: Config,
    embedder: Colours,
    cache: Cache,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    crops = load_crops(market, "market1501")
    scores = score_embedder(crops, Models(config), cache)
    for path in (tmp_path / "cache").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING, "motserve"):
        assert score_embedder(crops, Models(config), cache) == scores
    assert len(caplog.records) == 2
    assert sum(embedder.batches) == 32


def test_an_interrupt_leaves_only_complete_files(
    market: Path, config: Config, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motserve.lab.experiments.models.build_embedder", lambda *_: Colours(stops_after=10))
    with pytest.raises(KeyboardInterrupt):
        score_embedder(load_crops(market, "market1501"), Models(config), cache)
    assert len(list((tmp_path / "cache").rglob("*"))) == 2  # the queries are complete
    assert len(list((tmp_path / "cache").rglob("*.parquet"))) == 1


def test_a_crop_that_cannot_be_read_is_named(market: Path, config: Config, embedder: Colours, cache: Cache) -> None:
    broken = market / "bounding_box_test" / "0003_c2s1_000001_00.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    with pytest.raises(InvalidData, match=broken.name):
        score_embedder(load_crops(market, "market1501"), Models(config), cache)


@pytest.mark.parametrize("part", ["query", "bounding_box_test"])
def test_only_junk_is_invalid_data(market: Path, config: Config, embedder: Colours, cache: Cache, part: str) -> None:
    for path in (market / part).iterdir():
        path.unlink()
    write_crop(market / part / "-1_c2s1_000009_00.png", COLOURS[1], 1)
    with pytest.raises(InvalidData, match="junk"):
        score_embedder(load_crops(market, "market1501"), Models(config), cache)


def test_queries_without_right_crops_are_invalid_data(
    market: Path, config: Config, embedder: Colours, cache: Cache
) -> None:
    for path in (market / "bounding_box_test").iterdir():
        path.rename(path.with_name(path.name.replace("_c2", "_c1")))
    with pytest.raises(InvalidData):
        score_embedder(load_crops(market, "market1501"), Models(config), cache)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        load_crops(tmp_path / "nowhere", "market1501")


def test_the_small_intel_embedder_has_its_documented_scores_on_real_people(data_dir: Path, cache: Cache) -> None:
    """Rank-1 and mAP of data/README.md, across the cameras of PKU-Reid."""
    weights = data_dir / "models" / "reid" / "person-reidentification-retail-0288.onnx"
    config = load_config([{"reid": {"weights": str(weights), "onnx_input": "bgr255", "device": "cpu"}}])
    crops = load_crops(data_dir / "reid_images" / "PKU-Reid-74", "cross-camera")
    plain, _ = score_embedder(crops, Models(config), cache)
    assert plain.as_dict()["Rank-1"] == pytest.approx(0.787, abs=0.003)
    assert plain.as_dict()["mAP"] == pytest.approx(0.626, abs=0.003)
    assert score_embedder(crops, Models(config), cache) == (plain, None)


def test_only_the_selected_people_count(market: Path, config: Config, embedder: Colours, cache: Cache) -> None:
    all_people = load_crops(market, "market1501")
    person = int(all_people.query.identities[0])
    crops = load_crops(market, "market1501", {person})
    assert set(crops.query.identities.tolist()) | set(crops.gallery.identities.tolist()) == {person}
    assert crops.data["gallery"]["sha256"] != all_people.data["gallery"]["sha256"]
    with pytest.raises(InvalidData, match="none of the 1 selected people"):
        load_crops(market, "market1501", {999})

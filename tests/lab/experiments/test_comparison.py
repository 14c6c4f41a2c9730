from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from experiment_data import OFF, PUBLISHED, Clock, Stepper, load_written, write_sequence
from matplotlib import colormaps
from matplotlib.axes import Axes as MatplotlibAxes

from motserve.base import DetectorBase, ReIDBase
from motserve.config import Config, change_config, load_config
from motserve.errors import InvalidConfig, InvalidData
from motserve.lab.compare.comparison import Axes, Column, Comparison, Kind
from motserve.lab.compare.detectors import compare_detectors
from motserve.lab.compare.embedders import compare_embedders
from motserve.lab.compare.report import write_comparison
from motserve.lab.compare.timing import Speed, measure_speed
from motserve.lab.compare.trackers import (
    EQUAL,
    compare_trackers,
    own_candidates,
    own_variants,
    peer_candidates,
)
from motserve.lab.evaluation import RATIO_NAMES, SCORE_NAMES
from motserve.lab.evaluation.detection import ImageTruth
from motserve.lab.evaluation.sequences import COMBINED
from motserve.lab.experiments.cache import Cache
from motserve.lab.experiments.crops import load_crops
from motserve.lab.experiments.detections import silent
from motserve.lab.experiments.models import Models
from motserve.lab.experiments.pictures import LabelledPictures
from motserve.lab.experiments.record import log_run
from motserve.lab.experiments.sequences import LabelledSequence
from motserve.lab.experiments.tracking import TrackedVideo, track_detections, track_with
from motserve.models.provenance import stamp
from motserve.types import Detections, FloatArray, Image

NAME = Column("name", "candidate", "text")
SHARE = Column("share", "share", "percent")
TIME = Column("ms", "ms", "decimal")
COLUMNS = (NAME, SHARE, TIME, Column("n", "n", "count"), Column("par", "M par.", "millions"))
PROVENANCE = stamp(load_config())


def comparison(rows: Sequence[Mapping[str, Any]], title: str = "Things", overall: str | None = None) -> Comparison:
    return Comparison(title, COLUMNS, rows, Axes(TIME, SHARE, NAME, "time, ms"), ("hidden",), overall)


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("percent", 0.71549, "71.5"),
        ("percent", -0.25, "-25.0"),
        ("percent", 1, "100.0"),
        ("decimal", 1.005, "1.00"),
        ("decimal", 12345.678, "12345.68"),
        ("count", 7, "7"),
        ("count", 7.6, "8"),
        ("millions", 3_011_043, "3.0"),
        ("text", "a", "a"),
        ("text", 5, "5"),
        ("percent", np.float32(0.5), "50.0"),
        ("count", np.int64(3), "3"),
    ],
)
def test_values_are_formatted_by_their_kind(kind: Kind, value: object, text: str) -> None:
    assert Column("x", "X", kind).cell({"x": value}) == text


@pytest.mark.parametrize("kind", ["percent", "decimal", "count", "millions", "text"])
@pytest.mark.parametrize("row", [{}, {"x": None}, {"x": math.nan}, {"x": -math.inf}, {"x": np.float32("nan")}])
def test_an_unknown_value_is_a_dash(kind: Kind, row: dict[str, object]) -> None:
    assert Column("x", "X", kind).cell(row) == "-"


def test_the_table_in_markdown() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a|b", "share": 0.5, "ms": 1.25, "n": 3, "par": 2_500_000},
        {"name": "two\nlines", "share": None, "ms": math.nan, "n": 0, "other": 5},
    ]
    assert comparison(rows).markdown().splitlines() == [
        "## Things",
        "",
        "| candidate | share | ms | n | M par. |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a\\|b | 50.0 | 1.25 | 3 | 2.5 |",
        "| two lines | - | - | 0 | - |",
    ]


# --- the files --------------------------------------------------------------------------------------------------------

ROWS = [{"name": "a", "share": 0.5, "ms": 1.0, "hidden": 0.25}, {"name": "b", "share": 0.75, "ms": 20.0}]


def picture(folder: Path) -> np.ndarray:
    image = cv2.imread(str(folder / "plot.png"))
    assert image is not None
    return image


def points(folder: Path) -> int:
    """Count the colours of Matplotlib's palette in the picture, except grey, which lines and text have too."""
    palette = np.round(colormaps["tab10"](np.arange(10))[:, 2::-1] * 255).astype(np.uint8)
    palette = palette[np.ptp(palette, axis=1) > 0]
    image = picture(folder)
    return sum(bool((image == colour).all(axis=2).sum() > 20) for colour in palette)


def test_three_files_with_the_same_content_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/motserve", "compare", "--title", "two words"])
    write_comparison(comparison(ROWS), tmp_path / "new" / "folder", stamp(load_config()))
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["plot.png", "results.json", "table.md"]
    document = json.loads((folder / "results.json").read_text())
    assert set(document) == {"rows", "provenance"}
    assert document["rows"] == ROWS
    assert document["provenance"]["config"]["tracker"]["name"] == "bytetrack"
    text = (folder / "table.md").read_text()
    assert text.startswith(comparison(ROWS).markdown())
    assert text.endswith("Repeat: `motserve compare --title 'two words'`\n")
    assert points(folder) == 2


def test_a_value_that_is_not_finite_is_null_in_json(tmp_path: Path) -> None:
    write_comparison(comparison([{"name": "a", "share": math.nan, "ms": math.inf, "n": None}]), tmp_path, PROVENANCE)
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row == {"name": "a", "share": None, "ms": None, "n": None}


ODD: dict[str, tuple[list[dict[str, Any]], int]] = {
    "none": ([], 0),
    "no numbers": ([{"name": "a"}], 0),
    "nan": ([{"name": "a", "share": math.nan, "ms": 1.0}], 0),
    "None": ([{"name": "a", "share": 0.5, "ms": None}], 0),
    "no time": ([{"name": "a", "share": 0.5, "ms": 0.0}], 0),
    "hardly any time": ([{"name": "a", "share": 0.0, "ms": 1e-9}], 1),
    "many": ([{"name": f"candidate {number}", "share": 0.5, "ms": 2.0**number} for number in range(20)], 20),
    "dollars": ([{"name": "$\\bad$", "share": 0.5, "ms": 1.0}, {"name": "$", "share": 0.5, "ms": 9.0}], 2),
    "underscore": ([{"name": "_hidden", "share": 0.5, "ms": 1.0}], 1),
}


@pytest.mark.parametrize("case", ODD)
def test_any_comparison_is_drawn_without_warnings(tmp_path: Path, case: str) -> None:
    rows, drawn = ODD[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_comparison(comparison(rows, title="from $a to $\\b"), tmp_path, PROVENANCE)
    assert picture(tmp_path).std() > 5
    assert points(tmp_path) == min(drawn, 9)


def test_every_candidate_is_in_the_legend(tmp_path: Path) -> None:
    """By default Matplotlib omits names that begin with an underscore."""
    for name in ("x", "_x"):
        write_comparison(comparison([{"name": name, "share": 0.5, "ms": 1.0}]), tmp_path / name, PROVENANCE)
    legends = [(picture(tmp_path / name)[:, 700:] < 128).sum() for name in ("x", "_x")]
    assert legends[1] > legends[0] * 0.9


def test_points_have_the_units_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, ...]] = []
    scatter = MatplotlibAxes.scatter

    def spy(axes: MatplotlibAxes, x: list[float], y: list[float], **style: Any) -> Any:
        drawn.append((*x, *y))
        return scatter(axes, x, y, **style)

    monkeypatch.setattr(MatplotlibAxes, "scatter", spy)
    write_comparison(comparison(ROWS), tmp_path, PROVENANCE)
    assert drawn == [(1.0, 50.0), (20.0, 75.0)]


def test_only_rows_over_all_sequences_are_drawn(tmp_path: Path) -> None:
    rows = [{**row, "sequence": sequence} for row in ROWS for sequence in ("one", COMBINED)]
    rows[0]["ms"] = 1e9
    write_comparison(comparison(rows, overall=COMBINED), tmp_path / "some", PROVENANCE)
    write_comparison(comparison(rows[1::2], overall=COMBINED), tmp_path / "same", PROVENANCE)
    np.testing.assert_array_equal(picture(tmp_path / "some"), picture(tmp_path / "same"))


# --- metrics of runs --------------------------------------------------------------------------------------------------


def test_metrics_are_in_per_cent_where_they_are_ratios() -> None:
    rows = [{**ROWS[0], "n": 3, "par": 2_500_000, "text": "x", "none": None, "nan": math.nan}, ROWS[1]]
    assert comparison(rows).metrics() == {
        "a": {"share": 50.0, "ms": 1.0, "hidden": 25.0, "n": 3.0, "par": 2_500_000.0},
        "b": {"share": 75.0, "ms": 20.0},
    }


def test_metrics_of_a_single_sequence_have_its_name_as_prefix() -> None:
    rows = [{"name": "a", "sequence": name, "share": share} for name, share in (("s1", 0.1), (COMBINED, 0.2))]
    assert comparison(rows, overall=COMBINED).metrics() == {"a": {"s1/share": 10, "share": 20}}
    assert comparison(rows[:1], overall="s1").metrics() == {"a": {"share": 10}}


def test_numpy_numbers_are_numbers() -> None:
    rows = [{"name": "a", "share": np.float32(0.5), "ms": np.float64(2), "n": np.int64(3), "par": np.float32("nan")}]
    assert comparison(rows).metrics() == {"a": {"share": 50.0, "ms": 2.0, "n": 3.0}}


# --- trackers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sequences(tmp_path: Path) -> list[LabelledSequence]:
    """Two sequences of people who walk in straight lines."""
    write_sequence(tmp_path, "a", frames=20)
    write_sequence(tmp_path, "b", frames=30, seed=1)
    return load_written(tmp_path, load_config([OFF]))


def test_trackers_are_compared_over_each_sequence_and_over_all(
    sequences: list[LabelledSequence], tmp_path: Path
) -> None:
    config = load_config([OFF, PUBLISHED])
    reports = []
    result = compare_trackers(
        sequences,
        own_candidates(own_variants(config, sequences), Cache(tmp_path)) | peer_candidates([EQUAL], config),
        lambda *what: reports.append(what),
    )
    names = [(row["tracker"], row["sequence"]) for row in result.rows]
    assert names == [(t, s) for t in ("bytetrack", EQUAL) for s in ("a", "b", COMBINED)]
    assert reports == [(tracker, done, 2) for tracker in ("bytetrack", EQUAL) for done in range(3)]
    for row in result.rows:
        assert set(row) == {"tracker", "sequence", *SCORE_NAMES, "median_ms", "p95_ms"}
        assert 0 < row["median_ms"] <= row["p95_ms"]
    own, equal = result.rows[:3], result.rows[3:]
    for one, other in zip(own, equal, strict=True):
        assert {name: one[name] for name in SCORE_NAMES} == pytest.approx({name: other[name] for name in SCORE_NAMES})
    assert own[2]["IDSW"] == own[0]["IDSW"] + own[1]["IDSW"]
    assert min(own[0]["HOTA"], own[1]["HOTA"]) < own[2]["HOTA"] < max(own[0]["HOTA"], own[1]["HOTA"])

    metrics = result.metrics()
    assert list(metrics) == ["bytetrack", EQUAL]
    assert metrics["bytetrack"]["MOTA"] == 100 * own[2]["MOTA"]
    assert metrics["bytetrack"]["DetA"] == 100 * own[2]["DetA"]
    assert metrics["bytetrack"]["b/IDF1"] == 100 * own[1]["IDF1"]
    assert metrics["bytetrack"]["a/IDSW"] == own[0]["IDSW"]
    assert set(RATIO_NAMES) <= set(metrics[EQUAL])
    write_comparison(result, tmp_path / "out", PROVENANCE)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == result.rows
    assert points(tmp_path / "out") == 2


def test_a_single_sequence_has_no_row_over_all(sequences: list[LabelledSequence], tmp_path: Path) -> None:
    result = compare_trackers(sequences[:1], own_candidates({"x": load_config([OFF])}, Cache(tmp_path)), silent)
    assert [row["sequence"] for row in result.rows] == ["a"]
    assert result.metrics()["x"]["HOTA"] == 100 * result.rows[0]["HOTA"]
    write_comparison(result, tmp_path / "out", PROVENANCE)
    assert points(tmp_path / "out") == 1


def test_times_are_the_median_and_95th_percentile_of_a_frame(sequences: list[LabelledSequence]) -> None:
    milliseconds = {"a": np.arange(20.0), "b": np.arange(100.0, 130)}

    def track(sequence: LabelledSequence) -> TrackedVideo:
        frames = track_detections(sequence.detected, load_config([OFF])).frames
        return TrackedVideo(frames, milliseconds[sequence.name])

    rows = compare_trackers(sequences, {"x": track}, silent).rows
    expected = [*milliseconds.values(), np.concatenate([*milliseconds.values()])]
    assert [row["median_ms"] for row in rows] == [np.percentile(times, 50) for times in expected]
    assert [row["p95_ms"] for row in rows] == [np.percentile(times, 95) for times in expected]


def test_a_clock_around_the_step_times_a_peer(sequences: list[LabelledSequence]) -> None:
    clock = Clock()
    rows = compare_trackers(
        sequences[:1], {"x": lambda sequence: track_with(sequence.detected, Stepper(clock), clock)}, silent
    ).rows
    assert (rows[0]["median_ms"], rows[0]["p95_ms"]) == (125, 125)


def test_identities_are_a_variant_only_if_all_sequences_have_a_video(sequences: list[LabelledSequence]) -> None:
    config = load_config([{"reid": {"policy": "always"}}])
    assert list(own_variants(config, sequences)) == ["bytetrack"]
    footage: Any = object()
    seen = [LabelledSequence(s.truth, s.table, s.rules, s.detected, footage) for s in sequences]
    variants = own_variants(config, seen)
    assert {name: one.reid.policy for name, one in variants.items()} == {
        "bytetrack": "off",
        "bytetrack + identities": "always",
    }
    assert list(own_variants(config, [seen[0], sequences[1]])) == ["bytetrack"]
    assert list(own_variants(load_config([OFF]), seen)) == ["bytetrack"]


def test_peers_are_chosen_by_name_and_an_unknown_one_is_named() -> None:
    config = load_config([PUBLISHED])
    all_peers = peer_candidates(["all"], config)
    assert list(all_peers)[:3] == [EQUAL, "ultralytics-bytetrack", "ultralytics-botsort"]
    assert list(peer_candidates(["ultralytics-ocsort", EQUAL], config)) == ["ultralytics-ocsort", EQUAL]
    assert list(peer_candidates([EQUAL, "all"], config)) == list(all_peers)
    with pytest.raises(InvalidConfig, match=r"unknown tracker deepsort, x; installed here are .*ultralytics-botsort"):
        peer_candidates(["deepsort", EQUAL, "x"], config)


@pytest.mark.parametrize("names", [["foo", "all"], ["all", "foo"]])
def test_all_does_not_hide_an_unknown_peer(names: list[str]) -> None:
    with pytest.raises(InvalidConfig, match="unknown tracker foo"):
        peer_candidates(names, load_config())


def test_a_configuration_without_an_equal_is_refused() -> None:
    changed: dict[str, Any] = {"tracker": {"duplicate_iou": 0.9, "kalman": {"position_noise": 0.1}}}
    cases: list[tuple[list[Any], str]] = [
        ([PUBLISHED, changed], r"tracker\.duplicate_iou, tracker\.kalman change it; use .*bytetrack-published\.yaml"),
        (
            [],
            r"tracker\.confidence_scaling, tracker\.buffered_iou, tracker\.detection_weight, .*tracker\.kalman change",
        ),
        ([{"tracker": {"name": "sort"}}], r"tracker\.name change"),
    ]
    for layers, said in cases:
        config = load_config(layers)
        assert EQUAL not in peer_candidates(["all"], config)
        with pytest.raises(InvalidConfig, match=said):
            peer_candidates([EQUAL], config)


def test_each_name_runs_its_own_peer(sequences: list[LabelledSequence]) -> None:
    names = ["ultralytics-bytetrack", "ultralytics-ocsort"]
    rows = compare_trackers(sequences[1:], peer_candidates(names, load_config()), silent).rows
    scores = [[row[name] for name in SCORE_NAMES] for row in rows]
    assert scores[0] != scores[1]


# --- speed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, np.array])
def test_single_items_and_batches_are_timed_after_a_warm_up_pass(
    kind: Callable[[Any], Any],
) -> None:
    clock = Clock()
    sizes = []

    def run(batch: Sequence[int]) -> None:
        sizes.append(len(batch))
        first_of_its_kind = len(sizes) in (1, 9)
        clock.now += 100 if first_of_its_kind else {1: 0.25, 3: 0.5}.get(len(batch), 1)

    speed = measure_speed(run, kind([1, 2, 3, 4, 5, 6, 7]), 3, clock)
    assert sizes == [1, *[1] * 7, 3, 3, 3, 1]
    assert speed == Speed(median_ms=250, per_second=7 / 1.25)


def test_the_median_is_robust_to_an_outlier() -> None:
    clock = Clock()
    times = iter([9, 0.1, 0.1, 7, 0.1, 0.1, 1, 1, 1, 1])

    def run(batch: Sequence[int]) -> None:
        clock.now += next(times)

    assert measure_speed(run, [0] * 5, 2, clock).median_ms == pytest.approx(100)


# --- detectors --------------------------------------------------------------------------------------------------------


CLOCK = Clock()


def use(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("detectors", "embedders"):
        monkeypatch.setattr(f"motserve.lab.compare.{module}.measure_speed", partial(measure_speed, clock=clock))


class BlankDetector(DetectorBase):
    """Detects nothing; one picture takes a quarter of a second, two take half of that."""

    class_names: Mapping[int, str] = {0: "person"}

    def __init__(self, parameters: int | None) -> None:
        self._parameters = parameters
        self.batches: list[int] = []

    @property
    def parameters(self) -> int | None:
        return self._parameters

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.batches.append(len(images))
        CLOCK.now += {1: 0.25, 2: 0.125}[len(images)]
        return [Detections.empty()] * len(images)


BOX = np.array([[10, 10, 50, 110]], np.float32)
TRUTH = ImageTruth(BOX.astype(np.float64), np.zeros(1, np.int64), np.zeros(1, np.bool_))
HIT = Detections(BOX, np.array([0.9], np.float32), np.zeros(1, np.int64))


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Config]:
    """Two candidates with weights files for detector and embedder."""
    configs = {}
    for name in ("good", "bad"):
        (tmp_path / f"{name}.onnx").write_text(name)
        chosen = {"weights": str(tmp_path / f"{name}.onnx")}
        configs[name] = load_config([{"detector": chosen, "reid": chosen, "cache_dir": str(tmp_path / "cache")}])
    return configs


def test_detectors_are_compared_on_the_same_pictures(
    weights: dict[str, Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seers = {"good.onnx": BlankDetector(3_000_000), "bad.onnx": BlankDetector(None)}
    use(CLOCK, monkeypatch)
    monkeypatch.setattr(
        "motserve.lab.experiments.models.build_detector", lambda _, weights, __: seers[weights.path.name]
    )
    limits = []

    def detect(models: Models) -> list[LabelledPictures]:
        limits.append(models.config.detector.confidence)
        found = HIT if "good" in models.config.detector.weights[0] else Detections.empty()
        images = [np.zeros((8, 8, 3), np.uint8)] * 2
        return [LabelledPictures(name, [TRUTH] * 3, [found] * 3, lambda count: images[:count]) for name in ("a", "b")]

    result, used = compare_detectors(weights, detect)
    assert limits == [0.01, 0.01]
    assert [row["detector"] for row in result.rows] == ["good", "bad"]
    assert [(row["mAP50"], row["mAP50-95"], row["recall@0.1FPPI"]) for row in result.rows] == [(1, 1, 1), (0, 0, 0)]
    assert [(row["images"], row["objects"]) for row in result.rows] == [(6, 6)] * 2
    assert [row["parameters"] for row in result.rows] == [3_000_000, None]
    assert {name: (w["name"], len(w["sha256"])) for name, w in used.items()} == {
        "good": ("good.onnx", 64),
        "bad": ("bad.onnx", 64),
    }
    assert seers["good.onnx"].batches == [1, 1, 1, 2, 2]
    assert [(row["median_ms"], row["fps"]) for row in result.rows] == [(250, 16), (250, 16)]
    assert [column.heading for column in result.columns][3:5] == ["R@0.1", "R@1"]
    assert result.cells()[1][-2:] == ["-", "640"]
    metrics = result.metrics()
    assert (metrics["good"]["mAP50"], metrics["good"]["recall@1FPPI"], metrics["good"]["images"]) == (100, 100, 6)
    assert "parameters" not in metrics["bad"]
    write_comparison(result, tmp_path / "out", PROVENANCE)
    assert points(tmp_path / "out") == 2


def test_a_detector_that_cannot_be_timed_is_an_error(
    weights: dict[str, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motserve.lab.experiments.models.build_detector", lambda *_: BlankDetector(None))
    with pytest.raises(InvalidData, match="no picture"):
        compare_detectors(weights, lambda _: [LabelledPictures("a", [TRUTH], [HIT], lambda _: [])])


# --- embedders --------------------------------------------------------------------------------------------------------


class Colours(ReIDBase):
    """Embeds the colour of a crop, or returns a constant."""

    dimension = 3

    def __init__(self, constant: bool) -> None:
        self._blind = constant

    def embed(self, crops: np.ndarray) -> FloatArray:
        CLOCK.now += {1: 0.5, 2: 0.25}[len(crops)]
        mean = crops.reshape(len(crops), -1, 3).mean(axis=1) + 1
        mean = mean[:, ::-1] * [1, 0, 0] if self._blind else mean
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """Two people in red and blue, from two cameras."""
    root = tmp_path / "market"
    for folder, camera in (("query", 1), ("bounding_box_test", 2)):
        (root / folder).mkdir(parents=True)
        for person, colour in ((2, (0, 0, 200)), (1, (200, 0, 0))):
            path = root / folder / f"{person:04}_c{camera}s1_{person:06}_00.png"
            cv2.imwrite(str(path), np.full((64, 32, 3), colour, np.uint8))
    return root


@pytest.mark.parametrize("rerank", [False, True])
def test_embedders_are_compared_on_the_same_crops(
    weights: dict[str, Config], market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rerank: bool
) -> None:
    monkeypatch.setattr(
        "motserve.lab.experiments.models.build_embedder", lambda _, weights, __: Colours("bad" in weights.path.name)
    )
    use(CLOCK, monkeypatch)
    small = {"evaluation": {"rerank": {"k1": 2, "k2": 1}}}
    configs = {name: change_config(config, small) for name, config in weights.items()}
    crops = load_crops(market, "market1501")
    result, used = compare_embedders(crops, configs, Cache(tmp_path / "cache"), rerank, silent)
    assert [row["embedder"] for row in result.rows] == ["good", "bad"]
    assert [row["Rank-1"] for row in result.rows] == [1.0, 0.5]
    assert {row["dimension"] for row in result.rows} == {3}
    assert {row["parameters"] for row in result.rows} == {None}
    for row in result.rows:
        assert (row["median_ms"], row["crop_ms"]) == (500, 125)
        assert ("reranked mAP" in row) == rerank
    assert set(used) == {"good", "bad"}
    headings = [column.heading for column in result.columns]
    assert ("mAP*" in headings) == rerank
    assert result.title == "Embedders, market, market1501" + (", * re-ranked" if rerank else "")
    metrics = result.metrics()["good"]
    assert metrics["mAP"] == 100
    assert metrics.get("reranked mAP") == (100 if rerank else None)
    write_comparison(result, tmp_path / "out", PROVENANCE)
    assert points(tmp_path / "out") == 2


def test_mlflow_accepts_every_metric_of_a_comparison(sequences: list[LabelledSequence], tmp_path: Path) -> None:
    result = compare_trackers(sequences, own_candidates({"x": load_config([OFF])}, Cache(tmp_path)), silent)
    config = load_config(
        [{"mlflow": {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "artifact_dir": str(tmp_path / "artifacts")}}]
    )
    files = write_comparison(result, tmp_path / "out", PROVENANCE)
    for candidate, metrics in result.metrics().items():
        assert log_run(config.mlflow, "trackers", metrics, PROVENANCE, files, candidate)

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from cli_checks import Motserve, assert_error, assert_usage, document, files_in
from experiment_data import PUBLISHED
from rich.console import Console

from motserve.config import VideoConfig, load_config
from motserve.lab.evaluation import SCORE_NAMES
from motserve.lab.scenes import SceneConfig, ground_truth_rows, render
from motserve.video import VideoWriter

Row = tuple[float, ...]
NO_REID = ("--set", "reid.policy=off")
FEW_TRIALS = ("--set", "tuning.trials=4")
OF_DATA = ("--gt", "gt", "--detections", "det")
TRACKERS = ("compare", "trackers", *OF_DATA)
TUNE = ("tune", "tracker", *OF_DATA)


@pytest.fixture
def data(motserve: Motserve) -> None:
    """Ground truth `gt` and detections `det` of two sequences: two people who pass each other, detected with gaps."""
    for name, gap in (("A", 7), ("B[1]", 5)):
        truth: list[Row] = []
        detections: list[Row] = []
        for frame in range(1, 31):
            for person, left in ((1, 100 + 6 * frame), (2, 280 - 6 * frame)):
                box = (left, 20 + 8 * person, 40, 100)
                truth.append((frame, person, *box, 1, -1, -1, -1))
                if (frame + person) % gap:
                    detections.append((frame, -1, *box, 0.8 if frame % 3 else 0.4))
        put(f"gt/{name}/gt/gt.txt", truth)
        put(f"gt/{name}/seqinfo.ini", "[Sequence]\nseqLength=30\nframeRate=10\n")
        put(f"det/{name}.txt", detections)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of people walking: `gt/hall/hall.mp4` with its ground truth, `det/hall.txt` with every person."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "gt/hall/gt").mkdir(parents=True)
    frames = list(render(SceneConfig(seed=5, width=192, height=112, rate_hz=6, duration_s=2)))
    with VideoWriter(folder / "gt/hall/hall.mp4", 192, 112, VideoConfig(), rate_hz=6) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame.frame.image, number / 6)
    rows = list(ground_truth_rows(frames))
    (folder / "gt/hall/gt/gt.txt").write_text("".join(f"{row}\n" for row in rows))
    fields = [row.split(",") for row in rows]
    put(folder / "det/hall.txt", "".join(f"{row[0]},-1,{','.join(row[2:6])},0.9\n" for row in fields))
    return folder


@pytest.fixture
def detector(untrained_detector: Path) -> list[str]:
    """Settings for a small untrained detector, which returns people everywhere."""
    settings = ("image_size=96", "max_detections=6", "nms_iou=0.1", "device=cpu")
    options = [f"weights={untrained_detector}", *settings]
    return [part for option in options for part in ("--set", f"detector.{option}")]


@pytest.fixture
def embedder(untrained_embedder: Path) -> list[str]:
    """Settings for a small untrained embedder, to which all people are similar."""
    options = (f"weights={untrained_embedder}", "device=cpu", "trust.min_height=1", "trust.max_overlap=1")
    return [part for option in options for part in ("--set", f"reid.{option}")]


def put(path: str | Path, content: str | list[Row]) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = content if isinstance(content, str) else "".join(",".join(f"{v:g}" for v in row) + "\n" for row in content)
    path.write_text(rows)
    return path


def assert_stamped(stamp: Any) -> None:
    assert {"motserve", "date", "command", "machine", "libraries", "config", "weights", "data", "candidates"} <= set(
        stamp
    )


# --- compare trackers


@pytest.mark.usefixtures("data")
def test_trackers_side_by_side(motserve: Motserve) -> None:
    call = (*TRACKERS, "--peers", "ultralytics-bytetrack-equal", *NO_REID, "--output", "new/out[1]")
    assert_error(motserve(*call), 2, "ultralytics-bytetrack-equal needs the published algorithm")
    result = motserve(*call, "--config", PUBLISHED)
    assert result.exit_code == 0, result.output
    assert files_in("new/out[1]") == ["plot.png", "results.json", "table.md"]
    assert "written to new/out[1]: table.md, results.json, plot.png" in result.stdout
    found = document("new/out[1]/results.json")
    assert [(row["tracker"], row["sequence"]) for row in found["rows"]] == [
        (tracker, sequence)
        for tracker in ("bytetrack", "ultralytics-bytetrack-equal")
        for sequence in ("A", "B[1]", "combined")
    ]
    assert all(set(SCORE_NAMES) <= set(row) for row in found["rows"])
    ours, theirs = (
        [{name: row[name] for name in SCORE_NAMES} for row in found["rows"] if row["tracker"].startswith(tracker)]
        for tracker in ("bytetrack", "ultralytics")
    )
    assert ours == [pytest.approx(row, abs=0.1) for row in theirs]
    assert all(row["MOTA"] > 0.5 for row in ours)
    assert_stamped(found["provenance"])
    assert set(found["provenance"]["data"]) == {"A", "B[1]"}
    assert found["provenance"]["weights"] == {"detector": None}
    table = Path("new/out[1]/table.md").read_text()
    assert table.count("\n| ") == 8
    image = cv2.imread("new/out[1]/plot.png")
    assert image is not None
    assert image.std() > 0
    assert found["provenance"]["config"].keys() == {"video"}


@pytest.mark.usefixtures("data")
def test_candidates_from_a_file(motserve: Motserve) -> None:
    put("c.yaml", "eager[1]: {tracker: {high_confidence: 0.3, new_track_confidence: 0.3}}\nas it is: {}\n")
    call = (*TRACKERS, "--peers", "none", *NO_REID, "--output", "out")
    result = motserve(*call, "--candidates", "c.yaml", "--sequences", "A")
    assert result.exit_code == 0, result.output
    assert "eager[1]" in result.stdout
    found = document("out/results.json")
    assert [(row["tracker"], row["sequence"]) for row in found["rows"]] == [("eager[1]", "A"), ("as it is", "A")]
    assert found["provenance"]["candidates"]["eager[1]"]["tracker"]["high_confidence"] == 0.3
    assert motserve(*call, "--sequences", "A").exit_code == 0
    assert [row["tracker"] for row in document("out/results.json")["rows"]] == ["bytetrack"]


@pytest.mark.usefixtures("data")
def test_a_candidate_with_the_name_of_a_peer_is_refused(motserve: Motserve) -> None:
    put("c.yaml", "ultralytics-bytetrack: {}\n")
    result = motserve(*TRACKERS, *NO_REID, "--candidates", "c.yaml", "--output", "out")
    assert_error(result, 2, "a candidate has the name of another package's tracker, ultralytics-bytetrack")
    assert not Path("out").exists()


@pytest.mark.usefixtures("data")
def test_without_a_video_identities_are_left_out_with_a_note(motserve: Motserve) -> None:
    result = motserve(*TRACKERS, "--peers", "none", "--output", "out", "--set", "reid.weights=/none.pt")
    assert result.exit_code == 0, result.output
    assert result.stderr == "without identities: there is no video of A, B[1]; give --videos\n"
    found = document("out/results.json")
    assert {row["tracker"] for row in found["rows"]} == {"bytetrack"}
    assert found["provenance"]["weights"] == {"detector": None}
    put("c.yaml", "a: {}\n")
    result = motserve(*TRACKERS, "--peers", "none", "--candidates", "c.yaml")
    assert_error(result, 2, "A: reid.policy is on_demand", "give --videos or set reid.policy=off")


def test_identities_are_compared_if_there_is_a_video(motserve: Motserve, scene: Path, embedder: list[str]) -> None:
    call = ("compare", "trackers", "--gt", scene / "gt", "--detections", scene / "det", "--peers", "none", *embedder)
    result = motserve(*call, "--output", "out")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    found = document("out/results.json")
    assert [row["tracker"] for row in found["rows"]] == ["bytetrack", "bytetrack + identities"]
    (weights,) = (value for key, value in found["provenance"]["weights"].items() if key != "detector")
    assert weights["name"] == "untrained.safetensors"


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "c.yaml must name candidates"),
        ("[]", "c.yaml must name candidates"),
        ("a: 1", "c.yaml must name candidates"),
        ("a: [", "cannot read candidates from c.yaml"),
        ("a: {tracker: {nope: 1}}", "c.yaml, candidate a: configuration not valid: tracker.nope"),
        ("a[x]: {tracker: {match_distance: 5}}", "c.yaml, candidate a[x]: configuration not valid"),
        (
            "a: {detector: {confidence: 0.5}}",
            "c.yaml, candidate a: detector cannot differ between candidates; only ",
        ),
        (None, "cannot read candidates from c.yaml"),
    ],
)
def test_candidates_that_are_not_valid_are_exit_code_2(motserve: Motserve, text: str | None, said: str) -> None:
    if text is not None:
        put("c.yaml", text)
    before = files_in()
    assert_error(motserve(*TRACKERS, "--candidates", "c.yaml", "--peers", "none", *NO_REID), 2, said)
    assert files_in() == before


@pytest.mark.usefixtures("data")
def test_unknown_trackers_are_exit_code_2_and_known_ones_are_named(motserve: Motserve) -> None:
    result = motserve(*TRACKERS, "--peers", "deepsort[1],ultralytics-bytetrack-equal", *NO_REID, "-c", PUBLISHED)
    assert_error(result, 2, "unknown tracker deepsort[1]; installed here are ultralytics-bytetrack-equal")
    assert not Path("runs").exists()


# --- what all commands refuse


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare"], ""),
        (["compare", "speed"], "No such command"),
        (["compare", "trackers"], "Missing option '--gt'"),
        ([*TRACKERS, "--output", "det/A.txt"], "det/A.txt is not a folder"),
        ([*TRACKERS, "--output", "det/A.txt/out"], "det/A.txt is not a folder"),
        (["compare", "detectors"], "give the ground truth of sequences or the data.yaml"),
        (["compare", "detectors", "--gt", "gt", "--data", "d.yaml"], "give the ground truth of sequences or the data"),
        (["compare", "detectors", "--data", "d.yaml", "--videos", "gt"], "go with --gt"),
        (["compare", "detectors", "--data", "d.yaml", "--output", "det/A.txt"], "det/A.txt is not a folder"),
        (["compare", "reid", "--root", "gt"], "Missing option '--protocol'"),
        (["compare", "reid", "--root", "gt", "--protocol", "msmt17", "--output", "det/A.txt"], "is not a folder"),
        (["tune"], ""),
        (["tune", "tracker"], "Missing option '--gt'"),
        ([*TUNE, "--output", "det/A.txt"], "det/A.txt is not a folder"),
        (["runs", "--limit", "0"], "--limit"),
        (["runs", "--json", "gt"], "gt is a folder or a device"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_changes_nothing(motserve: Motserve, arguments: list[str], said: str) -> None:
    before = files_in()
    result = motserve(*arguments)
    if len(arguments) > 1:
        assert_usage(result, said)
    assert result.exit_code == 2
    assert files_in() == before


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("command", [("compare", "trackers"), ("tune", "tracker")])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--gt", "none", "--detections", "det"], 3, "no ground truth at none"),
        (["--gt", "gt", "--detections", "none"], 3, "neither a file nor a folder none"),
        (["--gt", "gt", "--detections", "gt"], 3, "gt has no file of A, B[1]"),
        (
            ["--gt", "gt", "--detections", "det", "--sequences", "Q"],
            3,
            "no ground truth in gt of Q; available: A, B[1]",
        ),
        (["--gt", "gt", "--detections", "det", "--videos", "none"], 3, "there is no folder none"),
        (["--gt", "gt"], 3, "no video of A"),
        (["--gt", "gt", "--detections", "det", "--benchmark", "mot17"], 3, "gt/A/gt/gt.txt, line 1: class -1"),
        (["--gt", "gt", "--detections", "det", "--set", "tracker.nope=1"], 2, "tracker.nope"),
    ],
)
def test_unusable_data_is_one_line_and_leaves_no_files(
    motserve: Motserve, command: tuple[str, ...], arguments: list[str], code: int, said: str
) -> None:
    before = files_in()
    extra = ["--peers", "none"] if command == ("compare", "trackers") else FEW_TRIALS
    assert_error(motserve(*command, *arguments, *NO_REID, *extra), code, said)
    assert files_in() == before


@pytest.mark.usefixtures("data")
def test_a_full_disk_is_one_line_and_keeps_the_older_results(
    motserve: Motserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("out/results.json", "older")

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    result = motserve(*TRACKERS, "--peers", "none", *NO_REID, "--output", "out")
    assert_error(result, 1, "No space left on device")
    assert files_in("out") == ["results.json"]
    assert Path("out/results.json").read_text() == "older"


@pytest.mark.parametrize(
    "command", [["compare", "detectors"], ["compare", "trackers"], ["compare", "reid"], ["tune", "tracker"], ["runs"]]
)
def test_every_command_has_help(motserve: Motserve, command: list[str]) -> None:
    result = motserve(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("width", [30, 60, 200])
def test_no_number_of_a_comparison_is_truncated(
    motserve: Motserve, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("motserve.cli.compare.output._console", Console(width=width))
    put("c.yaml", "a candidate with a long name: {}\n'[red]': {}\n")
    result = motserve(*TRACKERS, "--peers", "none", *NO_REID, "--candidates", "c.yaml", "--output", "out")
    assert result.exit_code == 0, result.output
    shown = result.stdout.split("written to")[0]
    for row in document("out/results.json")["rows"]:
        for score in ("HOTA", "MOTA", "IDF1"):
            assert f"{100 * row[score]:.1f}" in shown.split()
        assert f"{row['median_ms']:.2f}" in shown.split()
    assert "[red]" in shown
    assert max(map(len, shown.splitlines())) <= width
    if width == 200:
        assert "a candidate with a long name" in shown
        assert shown.count("[red]") == 1, "a candidate with several rows is named once"


# --- compare detectors


def test_detectors_side_by_side(motserve: Motserve, scene: Path, detector: list[str], untrained_detector: Path) -> None:
    second = Path("second[1].safetensors")
    second.write_bytes(untrained_detector.read_bytes())
    call = ("compare", "detectors", *detector, "--weights", untrained_detector, "--weights", second, "--output", "out")
    few = ("--set", "evaluation.timed_images=2")
    result = motserve(*call, "--gt", scene / "gt", *few)
    assert result.exit_code == 0, result.output
    assert "second[1].safetensors" in result.stdout
    found = document("out/results.json")
    first, other = found["rows"]
    assert (first["detector"], other["detector"]) == ("untrained.safetensors", "second[1].safetensors")
    assert (first["mAP50"], first["objects"]) == (other["mAP50"], other["objects"])
    assert first["images"] == 12
    assert all(row["median_ms"] > 0 and row["fps"] > 0 and row["parameters"] > 1e6 for row in found["rows"])
    assert_stamped(found["provenance"])
    assert set(found["provenance"]["weights"]) == {"untrained.safetensors", "second[1].safetensors"}
    assert set(found["provenance"]["data"]) == {"hall"}
    assert files_in("out") == ["plot.png", "results.json", "table.md"]

    assert_error(
        motserve(*call, "--weights", second.absolute(), "--gt", scene / "gt"), 2, "two candidates are named second[1]"
    )
    assert_error(motserve(*call, "--weights", "none.pt", "--gt", scene / "gt", *few), 4, "none.pt")


def test_detectors_on_a_yolo_data_set(motserve: Motserve, detector: list[str]) -> None:
    put("set/labels/val/a.txt", "0 0.5 0.5 0.4 0.8\n")
    Path("set/images/val").mkdir(parents=True)
    cv2.imwrite("set/images/val/a.png", np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8))
    put("set/data.yaml", "val: images/val\nnames: [person]\n")
    call = ("compare", "detectors", *detector, "--data", "set/data.yaml", "--output", "out")
    assert motserve(*call).exit_code == 0
    (row,) = document("out/results.json")["rows"]
    assert (row["images"], row["objects"]) == (1, 1)
    assert_error(motserve(*call, "--split", "test"), 3, "must have the keys `names` and `test`")


# --- compare reid


def test_embedders_side_by_side(motserve: Motserve, embedder: list[str], untrained_embedder: Path) -> None:
    random = np.random.default_rng(0)
    for part in ("query", "bounding_box_test"):
        Path("crops[1]", part).mkdir(parents=True)
        for person, camera in ((1, 1), (1, 2), (2, 1), (2, 2)):
            image = random.integers(0, 255, (64, 32, 3), np.uint8)
            cv2.imwrite(f"crops[1]/{part}/{person:04}_c{camera}s1_00000{person}_0{camera}.png", image)
    put(
        "c.yaml", "tall: {reid: {crop_height: 128, crop_width: 64}}\nsmall: {reid: {crop_height: 64, crop_width: 32}}\n"
    )
    call = ("compare", "reid", "--root", "crops[1]", "--protocol", "market1501", *embedder, "--output", "out")
    result = motserve(*call, "--candidates", "c.yaml", "--rerank")
    assert result.exit_code == 0, result.output
    assert "Embedders, crops[1], market1501, * re-ranked" in result.stdout
    found = document("out/results.json")
    assert [row["embedder"] for row in found["rows"]] == ["tall", "small"]
    assert all(row["queries"] == 4 and row["dimension"] == 32 and row["crop_ms"] > 0 for row in found["rows"])
    assert all(0 < row["reranked mAP"] <= 1 for row in found["rows"])
    assert_stamped(found["provenance"])
    assert found["provenance"]["candidates"]["small"]["crop_height"] == 64
    assert motserve(*call, "--weights", untrained_embedder).exit_code == 0
    assert_error(motserve(*call, "--weights", "none.onnx"), 4, "none.onnx")
    assert_error(motserve(*call[:2], "--root", "none", *call[4:]), 3, "there is no folder none")


# --- tune tracker


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(("interruption", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_search_that_is_interrupted_writes_nothing_and_says_so(
    motserve: Motserve, monkeypatch: pytest.MonkeyPatch, interruption: BaseException, code: int
) -> None:
    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr("motserve.lab.tuning.search.tune", interrupt)
    result = motserve(*TUNE, *NO_REID, *FEW_TRIALS, "--output", "out")
    assert result.exit_code == code
    (line,) = result.stderr.splitlines()
    assert line.startswith("stopped; nothing is written, a search cannot be resumed; to start again: motserve ")
    assert files_in("out") == []


@pytest.mark.usefixtures("data")
def test_parameters_are_searched_on_one_half_and_reported_on_the_other(motserve: Motserve) -> None:
    result = motserve(*TUNE, *NO_REID, *FEW_TRIALS, "--output", "new/out[1]")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "best of 4 trials" in result.stdout
    assert "written to new/out[1]: best.yaml, results.json" in result.stdout
    assert files_in("new/out[1]") == ["best.yaml", "results.json"]
    found = document("new/out[1]/results.json")
    assert len(found["trials"]) == 4
    space = set(load_config().tuning.space)
    assert set(found["best"]) == set(found["trials"][0]["values"]) == space
    start, best = found["scores"]["start"], found["scores"]["best"]
    assert set(start) == set(best) == {"train", "held_out"}
    assert best["train"]["HOTA"] == pytest.approx(max(trial["score"] for trial in found["trials"]))
    assert best["train"]["HOTA"] >= start["train"]["HOTA"]
    rows = [line.split() for line in result.stdout.splitlines()]
    for key, value in found["best"].items():
        shown = f"{load_config().tracker.model_dump()[key.removeprefix('tracker.')]:g}"
        assert [key, shown, f"{value:.4g}"] in rows
    for name, scores in (("start", start), ("best", best)):
        hota, switches = f"{100 * scores['held_out']['HOTA']:.1f}", str(scores["held_out"]["IDSW"])
        assert any(row[:4] == [name, "held", "out", hota] and row[-1] == switches for row in rows)
    assert found["provenance"]["held_out"] == "second half of each sequence"
    # the file is a configuration layer that other commands accept
    loaded = load_config([Path("new/out[1]/best.yaml")])
    assert loaded.tracker.match_distance == found["best"]["tracker.match_distance"]
    other = ("--set", "tracker.name=sort", "--set", "tuning.space={tracker.match_distance: {low: 0.5, high: 0.9}}")
    assert motserve(*TUNE, *NO_REID, *FEW_TRIALS, *other, "--output", "sort").exit_code == 0
    assert load_config([Path("sort/best.yaml")]).tracker.name == "sort"
    assert_error(motserve(*TUNE, *NO_REID, *other[:2]), 2, "is not a key of the configuration, whose tracker is sort")
    again = motserve(*TUNE, *NO_REID, *FEW_TRIALS, "--output", "again")
    assert again.exit_code == 0
    assert document("again/results.json")["trials"] == found["trials"]
    assert motserve(*TRACKERS, *NO_REID, "--peers", "none", "-c", "again/best.yaml").exit_code == 0


@pytest.mark.usefixtures("data")
def test_whole_sequences_are_held_out(motserve: Motserve) -> None:
    call = (*TUNE, *NO_REID, *FEW_TRIALS, "--output", "out", "--held-out")
    assert motserve(*call, "B[1]").exit_code == 0
    found = document("out/results.json")
    assert found["provenance"]["held_out"] == ["B[1]"]
    assert found["scores"]["start"]["train"]["FN"] > 0
    assert motserve(*call, ",").exit_code == 0
    assert document("out/results.json")["provenance"]["held_out"] == "second half of each sequence"
    assert_error(motserve(*call, "A,B[1]"), 3, "cannot hold out A, B[1] of A, B[1]; name some of them, not all")
    assert_error(motserve(*call, "Z[2]"), 3, "cannot hold out Z[2] of A, B[1]")
    assert_error(motserve(*call, "B[1]", "--sequences", "A"), 3, "cannot hold out B[1] of A")


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{tracker.nope: {low: 0, high: 1}}", "tuning.space: tracker.nope is not a key"),
        ("{tracker.name: {low: 0, high: 1}}", "only numbers can be searched"),
        ("{tracker.match_distance: {low: 5, high: 9}}", "all tried sets of parameters are invalid"),
        ("{tracker.match_distance: {low: 1, high: 0}}", "low 1.0 must be below high 0.0"),
        ("{}", "tuning.space"),
    ],
)
def test_a_space_that_cannot_be_searched_is_exit_code_2(motserve: Motserve, space: str, said: str) -> None:
    before = files_in()
    assert_error(motserve(*TUNE, *NO_REID, *FEW_TRIALS, "--set", f"tuning.space={space}"), 2, said)
    assert files_in() == before


@pytest.mark.usefixtures("data")
def test_an_interrupted_search_leaves_no_files(motserve: Motserve, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("motserve.lab.tuning.search.score_tracking", interrupt)
    before = files_in()
    result = motserve(*TUNE, *NO_REID, *FEW_TRIALS)
    assert result.exit_code not in (0, 2, 3)
    assert "Traceback" not in result.output
    assert files_in() == before


# --- runs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for an MLflow store of the module; making the store takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


def in_experiment(store: Path, name: str) -> list[str]:
    settings = (f"tracking_uri=sqlite:///{store}/mlflow.db", f"artifact_dir={store}/{name}", f"experiment={name}")
    return [part for setting in settings for part in ("--set", f"mlflow.{setting}")]


@pytest.mark.usefixtures("data")
def test_runs_are_found_by_their_scores(motserve: Motserve, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    logged = in_experiment(store, "scores")
    result = motserve("runs", *logged, "--json", "none.json")
    assert (result.exit_code, result.stdout) == (0, "no matching runs in experiment scores\n")
    assert document("none.json") == []
    assert not list(store.rglob("*.db")), "a search of runs makes no store"

    tracking = ("evaluate", "mot", *OF_DATA, "--run", *NO_REID, "--json", "s.json", "--mlflow", *logged)
    assert "MLflow run " in motserve(*tracking).stdout
    scores = document("s.json")
    strict = ("tracker.confidence_scaling=null", "tracker.high_confidence=0.95", "tracker.new_track_confidence=0.99")
    settings = [part for setting in strict for part in ("--set", setting)]
    assert motserve(*tracking, "--sequences", "A", *settings).exit_code == 0
    poor = document("s.json")["combined"]
    assert poor["MOTA"] < 0.3 < scores["combined"]["MOTA"]

    found = motserve("runs", *logged, "--json", "r.json")
    assert found.exit_code == 0, found.output
    latest, first = document("r.json")
    assert latest["started"] > first["started"]
    assert latest["metrics"]["MOTA"] == pytest.approx(100 * poor["MOTA"])
    assert first["metrics"]["B_1_/HOTA"] == pytest.approx(100 * scores["sequences"]["B[1]"]["HOTA"])
    assert first["metrics"]["IDSW"] == scores["combined"]["IDSW"]
    assert first["kind"] == "mot"

    for query, expected in (
        ("metrics.MOTA > 30", [first]),
        ("metrics.MOTA <= 30", [latest]),
        ("metrics.`A/MOTA` > 30", [first]),
        ("tags.kind = 'mot'", [latest, first]),
        ("metrics.HOTA > 101", []),
    ):
        assert motserve("runs", "--filter", query, *logged, "--json", "r.json").exit_code == 0
        assert document("r.json") == expected
    assert (
        motserve("runs", "--order-by", "metrics.MOTA DESC", "--limit", "1", *logged, "--json", "r.json").exit_code == 0
    )
    assert document("r.json") == [first]
    monkeypatch.setattr("motserve.cli.runs.console", Console(width=100))
    shown = motserve("runs", *logged, "--filter", "metrics.MOTA > 30", "--metrics", "MOTA,IDSW,nothing").stdout
    assert f"{100 * scores['combined']['MOTA']:.2f}" in shown
    assert shown.split()[-1] == str(scores["combined"]["IDSW"]), (
        "a count has no decimals, a metric that is not there no cell"
    )
    for arguments in (["--filter", "MOTA >> 70"], ["--filter", "[x]"], ["--order-by", "foo bar"]):
        assert_error(motserve("runs", *arguments, *logged), 2, "MLflow at")


@pytest.mark.usefixtures("data")
def test_comparisons_and_searches_are_logged_by_candidate(motserve: Motserve, store: Path) -> None:
    logged = in_experiment(store, "candidates")
    put("c.yaml", "one: {}\n'[two]': {tracker: {match_distance: 0.7}}\n")
    put("runs/compare/trackers/diary.txt", "another file")
    result = motserve(*TRACKERS, *NO_REID, "--peers", "none", "--candidates", "c.yaml", "--mlflow", *logged)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("MLflow run ") == 2
    assert "[two]" in result.stdout
    assert motserve(*TUNE, *NO_REID, *FEW_TRIALS, "--mlflow", *logged, "--output", "tuned").exit_code == 0
    assert motserve("runs", *logged, "--json", "r.json", "--order-by", "attributes.start_time ASC").exit_code == 0
    found = document("r.json")
    assert [(run["kind"], run["tags"].get("candidate")) for run in found] == [
        ("trackers", "one"), ("trackers", "[two]"), ("tune", None),
    ]  # fmt: skip
    rows = {row["tracker"]: row for row in document("runs/compare/trackers/results.json")["rows"]}
    assert found[0]["metrics"]["HOTA"] == pytest.approx(100 * rows["one"]["HOTA"])
    assert found[2]["metrics"]["HOTA"] == pytest.approx(
        100 * document("tuned/results.json")["scores"]["best"]["held_out"]["HOTA"]
    )
    kept = {path.name for path in (store / "candidates").rglob("*") if path.is_file()}
    assert kept == {"results.json", "table.md", "plot.png", "best.yaml"}
    assert yaml.safe_load(Path("tuned/best.yaml").read_text())["tracker"]
    shown = motserve("runs", *logged).stdout
    assert "[two]" in shown


def test_detection_and_embeddings_are_logged_in_per_cent(
    motserve: Motserve, data: None, embedder: list[str], store: Path
) -> None:
    for person, camera in ((1, 1), (1, 2), (2, 1), (2, 2)):
        image = np.random.default_rng(person).integers(0, 255, (64, 32, 3), np.uint8)
        for part in ("query", "bounding_box_test"):
            Path("crops", part).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(f"crops/{part}/{person:04}_c{camera}s1_00000{person}_0{camera}.png", image)
    logged = in_experiment(store, "others")
    call = ("evaluate", "detection", *OF_DATA, "--json", "d.json", "--mlflow", *logged)
    assert motserve(*call).exit_code == 0
    call = ("evaluate", "reid", "--root", "crops", "--protocol", "market1501", *embedder, "--rerank")
    assert motserve(*call, "--json", "r.json", "--mlflow", *logged).exit_code == 0
    assert motserve("runs", *logged, "--json", "runs.json").exit_code == 0
    embeddings, detections = document("runs.json")
    assert (detections["kind"], embeddings["kind"]) == ("detection", "reid")
    found = document("d.json")
    assert 0 < found["combined"]["mAP50"] < 1
    assert detections["metrics"]["mAP50"] == pytest.approx(100 * found["combined"]["mAP50"])
    assert detections["metrics"]["A/mAP50-95"] == pytest.approx(100 * found["sequences"]["A"]["mAP50-95"])
    assert detections["metrics"]["objects"] == found["combined"]["objects"] == 120
    found = document("r.json")
    assert embeddings["metrics"]["Rank-1"] == pytest.approx(100 * found["scores"]["Rank-1"])
    assert found["scores"]["Rank-1"] > 0
    assert embeddings["metrics"]["reranked/mAP"] == pytest.approx(100 * found["reranked"]["mAP"])
    assert embeddings["metrics"]["queries"] == 4


# --- benchmark tracker


@pytest.mark.usefixtures("data")
def test_every_tracker_is_measured_on_real_sequences(motserve: Motserve) -> None:
    call = ("benchmark", "tracker", *OF_DATA, "--output", "out")
    result = motserve(*call)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("without pictures: there is no video of A, B[1]; the camera is assumed ")
    assert "left out: deepsort, strongsort; give --videos" in result.stderr
    found = document("out/results.json")
    names = ["bytetrack", "bytetrack-published", "botsort", "ocsort", "sort"]
    assert [(row["tracker"], row["sequence"]) for row in found["rows"]] == [
        (name, sequence) for name in names for sequence in ("A", "B[1]", "mean", "combined")
    ]
    for first in range(0, len(found["rows"]), 4):
        one, other, mean, _ = found["rows"][first : first + 4]
        for score in ("HOTA", "MOTA", "IDF1"):
            assert mean[score] == pytest.approx((one[score] + other[score]) / 2)
        assert mean.get("IDSW") is None
    assert found["provenance"]["candidates"]["botsort"]["tracker"]["camera"] is None
    assert files_in("out") == ["plot.png", "results.json", "table.md"]

    few = motserve(*call, "--trackers", "sort,bytetrack", "--peers", "ultralytics-ocsort", "--sequences", "A")
    assert few.exit_code == 0, few.output
    assert [row["tracker"] for row in document("out/results.json")["rows"]] == [
        "bytetrack", "sort", "ultralytics-ocsort",
    ]  # fmt: skip
    changed = motserve(*call, "--trackers", "sort", "--set", "tracker.name=sort", "--set", "tracker.confirm_hits=7")
    assert changed.exit_code == 0
    assert document("out/results.json")["provenance"]["candidates"]["sort"]["tracker"]["confirm_hits"] == 7
    assert_error(motserve(*call, "--trackers", "sort,nope"), 2, "unknown tracker nope; there are bytetrack, ")
    assert_error(motserve(*call, "--trackers", "deepsort"), 2, "without pictures: ", "left out: deepsort")
    assert_usage(motserve("benchmark", "tracker", "--sequences", "A"), "sequences need their ground truth")
    assert_usage(motserve("benchmark", "tracker", "--trackers", "sort"), "sequences need their ground truth")


def test_camera_motion_is_estimated_if_there_is_a_video(motserve: Motserve, scene: Path) -> None:
    call = ("benchmark", "tracker", "--gt", scene / "gt", "--detections", scene / "det", "--trackers", "botsort")
    result = motserve(*call, "--output", "out")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    provenance = document("out/results.json")["provenance"]
    assert provenance["candidates"]["botsort"]["tracker"]["camera"] is not None
    assert len(provenance["data"]["hall"]["video"]["sha256"]) == 64


@pytest.mark.usefixtures("data")
def test_a_tracker_that_needs_pictures_is_refused_without_them(motserve: Motserve) -> None:
    call = ("evaluate", "mot", *OF_DATA, "--run", "--set", "tracker.name=botsort", *NO_REID)
    assert_error(motserve(*call), 2, "A: tracker.camera is set, but there is no video", "set tracker.camera=null")
    assert motserve(*call, "--set", "tracker.camera=null").exit_code == 0
    without_camera = (*call, "--set", "tracker.camera=null", "--set", "tracker.appearance={}")
    assert_error(motserve(*without_camera), 2, "A: botsort uses embeddings", "set tracker.appearance=null")
    call = ("evaluate", "mot", *OF_DATA, "--run", "--set", "tracker.name=deepsort", *NO_REID)
    assert_error(motserve(*call), 2, "A: deepsort uses embeddings, but there is no video", "another tracker")

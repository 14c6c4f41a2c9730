from __future__ import annotations

import errno
import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_checks import Motserve, assert_error, assert_usage, document, files_in
from rich.console import Console

from motserve.config import VideoConfig, load_config
from motserve.lab.evaluation import COUNT_NAMES, RATIO_NAMES, SCORE_NAMES
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.experiments.detections import read_detections
from motserve.lab.experiments.sequences import track_sequence
from motserve.lab.experiments.tracking import track_detections
from motserve.lab.scenes import SceneConfig, ground_truth_rows, render
from motserve.models.provenance import write_stamp
from motserve.results import FORMATS, SUFFIXES, encode_frame, export, read_mot
from motserve.video import VideoWriter

Row = tuple[float, ...]
INI = "[Sequence]\nseqLength=20\nframeRate=10\n"
NO_REID = ("--set", "reid.policy=off")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `hall/hall.mp4`, twelve frames of people walking, and its ground truth."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "hall/gt").mkdir(parents=True)
    frames = list(render(SceneConfig(seed=5, width=192, height=112, rate_hz=6, duration_s=2)))
    with VideoWriter(folder / "hall/hall.mp4", 192, 112, VideoConfig(), rate_hz=6) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame.frame.image, number / 6)
    (folder / "hall/gt/gt.txt").write_text("".join(f"{row}\n" for row in ground_truth_rows(frames)))
    return folder


@pytest.fixture
def networks(untrained_detector: Path, untrained_embedder: Path) -> list[str]:
    """Settings for small untrained networks; the detector returns people everywhere, limited to a few."""
    settings = {
        "detector.weights": untrained_detector,
        "detector.image_size": 96,
        "detector.max_detections": 6,
        "detector.nms_iou": 0.1,
        "detector.device": "cpu",
        "reid.weights": untrained_embedder,
        "reid.device": "cpu",
        "reid.trust.min_height": 1,
        "reid.trust.max_overlap": 1,
    }
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def walk(person: int, frames: range, identity: int | None = None) -> list[Row]:
    return [(f, identity or person, 200.0 * person + 2 * f, 10, 40, 100, 1, -1, -1, -1) for f in frames]


TRUTH = walk(1, range(1, 21)) + walk(2, range(1, 21))
CHANGED = walk(1, range(1, 11)) + walk(1, range(11, 21), 9) + walk(2, range(1, 21))
"""The first of two people changes identity in the middle."""


def text_of(rows: list[Row]) -> str:
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows)


def put(path: str | Path, content: str | bytes | list[Row]) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = text_of(content) if isinstance(content, list) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def sequences(*names: str, ini: str | None = INI, folder: str = "gt") -> None:
    for name in names:
        put(f"{folder}/{name}/gt/gt.txt", TRUTH)
        if ini is not None:
            put(f"{folder}/{name}/seqinfo.ini", ini)


def detections(*names: str) -> None:
    for name in names:
        put(f"det/{name}.txt", [(row[0], -1, *row[2:6], 0.9) for row in TRUTH])


def lines_of(rows: list[Row], frames: int = 20) -> list[bytes]:
    """MOTChallenge rows as motserve stores them."""
    lines = []
    for frame in range(frames):
        tracks = [
            {"id": int(i), "track": int(i), "box": [x - 1, y - 1, x - 1 + w, y - 1 + h], "confidence": 0.9,
             "class": "person"}
            for f, i, x, y, w, h, *_ in rows if f == frame + 1
        ]  # fmt: skip
        lines.append(json.dumps({"frame": frame, "timestamp": frame / 10, "tracks": tracks}).encode() + b"\n")
    return lines


# --- evaluate mot: what it writes


def test_the_document_holds_every_score_of_every_sequence_and_of_all(motserve: Motserve) -> None:
    sequences("A", "B")
    put("results/A.txt", CHANGED)
    put("results/B.txt", walk(1, range(1, 21)))
    result = motserve("evaluate", "mot", "--gt", "gt", "--results", "results", "--json", "new/folder/scores.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    scores = document("new/folder/scores.json")
    assert list(scores["sequences"]) == ["A", "B"]
    for results in (*scores["sequences"].values(), scores["combined"]):
        assert list(results) == list(SCORE_NAMES)
        assert all(isinstance(results[name], int) for name in COUNT_NAMES)
        assert all(isinstance(results[name], float) and results[name] <= 1 for name in RATIO_NAMES)
    assert scores["sequences"]["A"] == pytest.approx(
        {"HOTA": 0.75**0.5, "DetA": 1, "AssA": 0.75, "LocA": 1, "MOTA": 39 / 40, "MOTP": 1, "IDF1": 0.75, "IDP": 0.75,
         "IDR": 0.75, "IDSW": 1, "Frag": 0, "FP": 0, "FN": 0, "MT": 2, "ML": 0}
    )  # fmt: skip
    combined = scores["combined"]
    assert (combined["FN"], combined["IDSW"], combined["MT"], combined["ML"]) == (20, 1, 3, 1)
    assert combined["MOTA"] == pytest.approx(1 - 21 / 80)


def test_every_document_is_stamped(motserve: Motserve) -> None:
    sequences("A")
    put("results/A.txt", CHANGED)
    assert motserve("evaluate", "mot", "--gt", "gt", "--results", "results", "--json", "a.json").exit_code == 0
    stamp = document("a.json")["provenance"]
    assert {"motserve", "date", "command", "machine", "libraries", "config", "weights", "data"} <= set(stamp)
    assert {"version", "commit", "dirty"} == set(stamp["motserve"])
    assert {"trackeval", "numpy"} <= set(stamp["libraries"])
    assert stamp["benchmarks"] == {"A": "mot15"}
    assert stamp["weights"] == {}
    for part, path in (("ground_truth", "gt/A/gt/gt.txt"), ("results", "results/A.txt")):
        described = stamp["data"]["A"][part]
        assert (described["files"], described["bytes"]) == (1, Path(path).stat().st_size)
        assert len(described["sha256"]) == 64


def test_tracks_of_every_format_have_the_same_scores(motserve: Motserve) -> None:
    sequences("A")
    results = []
    for format_ in FORMATS:
        put(f"{format_}/A{SUFFIXES[format_]}", b"".join(export(lines_of(CHANGED), format_)))
        for place in (format_, f"{format_}/A{SUFFIXES[format_]}"):
            result = motserve("evaluate", "mot", "--gt", "gt", "--results", place, "--json", "s.json")
            assert result.exit_code == 0, result.output
            results.append({key: document("s.json")[key] for key in ("sequences", "combined", "curves")})
    assert results == [results[0]] * 8
    assert results[0]["sequences"]["A"]["IDSW"] == 1


def test_the_output_folder_of_motserve_track_is_scored(motserve: Motserve) -> None:
    sequences("A", "B")
    for name in ("A", "B"):
        put(f"runs/{name}/tracks.json", b"".join(export(lines_of(CHANGED), "json")))
    assert motserve("evaluate", "mot", "--gt", "gt", "--results", "runs").exit_code == 0
    assert motserve("evaluate", "mot", "--gt", "gt/A", "--results", "runs/A").exit_code == 0


def test_ground_truth_of_any_layout(motserve: Motserve) -> None:
    sequences("A", "B")
    sequences("A", "B", folder="MOT/train")
    for name in ("A", "B"):
        put(f"flat/{name}.txt", TRUTH)
        put(f"results/{name}.txt", CHANGED)
    Path("linked").symlink_to("gt")
    results = []
    for gt in ("gt", "MOT", "MOT/train", "flat", "linked", Path.cwd() / "gt"):
        result = motserve("evaluate", "mot", "--gt", gt, "--results", "results", "--json", "s.json")
        assert result.exit_code == 0, result.output
        results.append(document("s.json")["sequences"])
    assert results == [results[0]] * 6
    for gt in ("gt/A", "gt/A/gt/gt.txt", "flat/A.txt"):
        assert motserve("evaluate", "mot", "--gt", gt, "--results", "results/A.txt").exit_code == 0


def test_selected_sequences_only(motserve: Motserve) -> None:
    sequences("A", "B", "C")
    put("results/A.txt", CHANGED)
    put("results/C.txt", CHANGED)
    put("results/Z.txt", "not a track file, without ground truth")
    call = ("evaluate", "mot", "--gt", "gt", "--results", "results", "--json", "s.json", "--sequences")
    assert motserve(*call, " C, A,").exit_code == 0
    assert list(document("s.json")["sequences"]) == ["A", "C"]
    assert_error(motserve(*call, "A,Q"), 3, "no ground truth in gt of Q; available: A, B, C")
    assert_error(motserve(*call, "A,B"), 3, "results has no file of B", "found A.txt, C.txt, Z.txt")


def test_a_second_opinion_is_shown_on_request(motserve: Motserve) -> None:
    sequences("A")
    put("results/A.txt", CHANGED)
    call = ("evaluate", "mot", "--gt", "gt", "--results", "results", "--json", "s.json")
    assert motserve(*call).exit_code == 0
    assert "second_opinion" not in document("s.json")
    result = motserve(*call, "--second-opinion")
    assert "motmetrics" in result.stdout
    opinion = document("s.json")["second_opinion"]["A"]
    assert opinion["motmetrics"]["MOTA"] == pytest.approx(39 / 40)
    assert all(abs(value) < 1e-9 for value in opinion["difference"].values())


def test_a_second_opinion_without_people_is_a_dash(motserve: Motserve) -> None:
    put("gt/A.txt", "")
    put("results/A.txt", TRUTH)
    result = motserve("evaluate", "mot", "--gt", "gt", "--results", "results", "--second-opinion", "--json", "s.json")
    assert result.exit_code == 0, result.output
    assert "nan" not in result.stdout
    assert "inf" not in result.stdout
    assert document("s.json")["second_opinion"]["A"]["motmetrics"]["MOTA"] is None


def test_files_with_byte_order_marks_and_other_line_ends(motserve: Motserve) -> None:
    sequences("A")
    plain = put("results/A.txt", CHANGED)
    call = ("evaluate", "mot", "--gt", "gt", "--results", "results", "--json", "s.json")
    assert motserve(*call).exit_code == 0
    expected = document("s.json")["sequences"]
    text = text_of(CHANGED)
    for disguised in (f"\ufeff{text}", text.replace("\n", "\r\n"), f"{text}\n \n\t\n", text.replace(",", ", ")):
        put(plain, disguised)
        put("gt/A/gt/gt.txt", text_of(TRUTH).replace("\n", "\r\n"))
        put("gt/A/seqinfo.ini", f"\ufeff{INI}".replace("\n", "\r\n"))
        assert motserve(*call).exit_code == 0
        assert document("s.json")["sequences"] == expected


# --- evaluate mot: what it shows


@pytest.mark.parametrize("width", [25, 40, 60, 80, 200])
@pytest.mark.parametrize("rows", [TRUTH, CHANGED])
def test_no_number_is_truncated_at_any_terminal_width(
    motserve: Motserve, monkeypatch: pytest.MonkeyPatch, width: int, rows: list[Row]
) -> None:
    monkeypatch.setattr(sys.modules["motserve.cli.evaluate.mot"], "console", Console(width=width))
    names = ["MOT17-02-FRCNN", "a sequence with a very long name, number 1", "S"]
    sequences(*names)
    for name in names:
        put(f"results/{name}.txt", rows)
    result = motserve("evaluate", "mot", "--gt", "gt", "--results", "results", "--json", "s.json", "--second-opinion")
    assert result.exit_code == 0, result.output
    shown = result.stdout.split("rules:")[0].split()
    assert all(name in shown for name in SCORE_NAMES)
    for scores in (*document("s.json")["sequences"].values(), document("s.json")["combined"]):
        for name in RATIO_NAMES:
            assert f"{100 * scores[name]:.2f}" in shown
    assert {len(word.partition(".")[2]) for word in shown if word[0].isdigit() and "." in word} == {2}
    assert max(map(len, result.stdout.split("rules:")[0].splitlines())) <= width
    if width == 200:
        assert shown.count("HOTA") == 1
        assert "a sequence with a very long name, number 1 " in result.stdout


@pytest.mark.parametrize("name", ["S[1]", "[bold]", "[red]x", "Straße 東京 🙂", "a|b c"])
def test_names_are_shown_unchanged(motserve: Motserve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys.modules["motserve.cli.evaluate.mot"], "console", Console(width=120))
    sequences(name, folder="g[x]")
    put(f"r[y]/{name}.txt", CHANGED)
    result = motserve(
        "evaluate", "mot", "--gt", "g[x]", "--results", "r[y]", "--second-opinion", "--json", "o[z]/s.json"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.count(name) == 4  # ratios, counts, rules, second opinion
    assert "\x1b" not in result.stdout
    assert list(document("o[z]/s.json")["sequences"]) == [name]
    put(f"r[y]/{name}.txt", "1,1,1\n")
    assert_error(
        motserve("evaluate", "mot", "--gt", "g[x]", "--results", "r[y]"), 3, f"r[y]/{name}.txt, line 1: 3 columns"
    )
    assert_error(motserve("evaluate", "mot", "--gt", "g[x]", "--results", "[none]"), 3, "[none]")


# --- evaluate mot: what it refuses


DONE = {"status": "done", "frames": len(lines_of(TRUTH))}
LOST = b"".join(export(lines_of(TRUTH)[:7] + lines_of(TRUTH)[8:], "json", summary=DONE))
TWICE = b"".join(export(lines_of(TRUTH)[:8] + lines_of(TRUTH)[7:], "json"))
SHORT = b"".join(export(lines_of(TRUTH)[:15], "ndjson"))
DOG = b"".join(export(lines_of(TRUTH), "csv")).replace(b"person", b"dog", 4).replace(b"dog", b"person", 3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("A.json", LOST, "results/A.json has 19 frames where its summary says 20; it is incomplete"),
        ("A.json", TWICE, "results/A.json, line 10: frame 7 comes after frame 7; frames must increase"),
        ("A.ndjson", SHORT, "results/A.ndjson, line 16: frame 15 is missing"),
        ("A.csv", DOG, "results/A.csv, line 5: class 'dog' is not a person"),
        ("A.txt", "1,1,1,1,2,2,1\n1,2,1,1,2,x,1\n", "results/A.txt, line 2: a field is not a number"),
        ("A.txt", "1,1,1,1,2,2,1\n1,1,1,1,2,2,1\n", "results/A.txt, line 2: ID 1 occurs twice in frame 1"),
        ("A.txt", "1,1,1,1,2,2,1,3\n", "results/A.txt, line 1: class 3 cannot be scored"),
        ("A.txt", "\n21,1,1,1,2,2,1\n", "results/A.txt, line 2: frame 21 of a sequence of 20 frames"),
        ("A.txt", "1000000000000,1,1,1,2,2,1\n", "results/A.txt, line 1: frame must be a whole number"),
        ("A.txt", "1,-1,1,1,2,2,1\n", "results/A.txt, line 1: ID -1 is not a track"),
        ("A.txt", "1,1,1,1,-2,2,1\n", "results/A.txt, line 1: "),
        ("A.txt", "1,1,nan,1,2,2,1\n", "results/A.txt, line 1: "),
        ("A.txt", gzip.compress(b"1,1,1,1,2,2,1", mtime=0), "results/A.txt is not a text file"),
        ("A.json", "[]", "results/A.json, line 1: no list of `frames`"),
        ("A.json", "", "results/A.json, line 1: not JSON"),
        ("A.md", "", "results has no file of A: searched A{.json,"),
        ("A.txt/x", "", "results has no file of A: searched A{.json,"),
    ],
)
def test_tracks_that_cannot_be_scored_are_exit_code_3_with_file_and_line(
    motserve: Motserve, name: str, content: str | bytes, said: str
) -> None:
    sequences("A")
    put(f"results/{name}", content)
    before = files_in()
    assert_error(
        motserve("evaluate", "mot", "--gt", "gt", "--results", "results", "--json", "new/s.json"), 3, f"error: {said}"
    )
    assert files_in() == before
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("gt", "results", "said"),
    [
        ("none", "results", "no ground truth at none"),
        ("results", "none", "none"),
        ("gt", "none", "neither a file nor a folder none"),
        ("gt", "gt", "gt has no file of A, B: searched"),
        ("gt", "results/A.txt", "results/A.txt is one file, the ground truth has 2 sequences: A, B"),
        ("empty", "results", "empty holds no ground truth"),
        ("gt/A", "empty", "empty has no file of A"),
        ("split", "results", "there are two ground truths of A: split/test/A/gt/gt.txt and split/train/A/gt/gt.txt"),
        ("gt/A", "twice", "there are 2 files of A, such as twice/A.json and twice/A.txt"),
        ("gt/A", "results/notes.md", "results/notes.md: tracks are read from .csv, .json, .ndjson, .txt"),
    ],
)
def test_wrong_folders_are_exit_code_3(motserve: Motserve, gt: str, results: str, said: str) -> None:
    sequences("A", "B")
    sequences("train/A", "test/A", folder="split")
    Path("empty").mkdir()
    for path in ("results/A.txt", "results/B.txt", "results/notes.md", "twice/A.txt", "twice/A.json"):
        put(path, TRUTH)
    assert_error(motserve("evaluate", "mot", "--gt", gt, "--results", results), 3, said)


def test_errors_name_the_sequence_that_a_file_belongs_to(motserve: Motserve) -> None:
    sequences("A", "B")
    for name in ("A", "B"):
        put(f"runs/{name}/tracks.txt", TRUTH)
    put("gt/B/gt/gt.txt", [*TRUTH, (21, 1, 1, 1, 2, 2, 1, -1, -1, -1)])
    call = ("evaluate", "mot", "--gt", "gt", "--results", "runs")
    assert_error(motserve(*call), 3, "gt/B/gt/gt.txt, line 41: frame 21 of a sequence of 20 frames")
    sequences("B")
    put("runs/B/tracks.txt", "1,1,1\n")
    assert_error(motserve(*call), 3, "runs/B/tracks.txt, line 1: 3 columns")
    put("gt/B/seqinfo.ini", "[Sequence]\nseqLength=many\n")
    assert_error(motserve(*call), 3, "gt/B/seqinfo.ini: seqLength must be a whole number, got 'many'")


@pytest.mark.parametrize("benchmark", ["mot16", "mot17", "mot20"])
def test_rules_that_do_not_fit_the_file_are_refused(motserve: Motserve, benchmark: str) -> None:
    sequences("A")
    put("results/A.txt", TRUTH)
    result = motserve("evaluate", "mot", "--gt", "gt", "--results", "results", "--benchmark", benchmark)
    assert_error(result, 3, f"gt/A/gt/gt.txt, line 1: class -1 is unknown to {benchmark}", "10 columns, not 9")
    assert motserve("evaluate", "mot", "--gt", "gt", "--results", "results", "--benchmark", "mot15").exit_code == 0


def test_eight_columns_need_an_explicit_benchmark(motserve: Motserve) -> None:
    put("gt/A/gt/gt.txt", [(*row[:7], 1) for row in TRUTH])
    put("results/A.txt", TRUTH)
    call = ("evaluate", "mot", "--gt", "gt", "--results", "results")
    assert_error(motserve(*call), 3, "gt/A/gt/gt.txt has 8 columns", "give --benchmark")
    assert motserve(*call, "--benchmark", "mot17").exit_code == 0


@pytest.mark.parametrize(
    ("reading", "denied"), [("read_text", "gt/A/gt/gt.txt"), ("read_bytes", "results/A.json")]
)  # fmt: skip
def test_unreadable_files_are_exit_code_3(
    motserve: Motserve, monkeypatch: pytest.MonkeyPatch, reading: str, denied: str
) -> None:
    sequences("A", ini=None)
    put("results/A.json", b"".join(export(lines_of(TRUTH), "json")))

    def deny(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, reading, deny)
    assert_error(
        motserve("evaluate", "mot", "--gt", "gt", "--results", "results"),
        3,
        f"{denied} cannot be read: Permission denied",
    )


MOT = ("evaluate", "mot", "--gt", "gt")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "mot"], "Missing option '--gt'"),
        (["evaluate", "mot", "--results", "results"], "Missing option '--gt'"),
        ([*MOT], "--results: give the tracks to score, or --run"),
        ([*MOT, "--results", "results", "--detections", "det"], "need --run"),
        ([*MOT, "--results", "results", "--videos", "gt"], "need --run"),
        ([*MOT, "--results", "results", "--benchmark", "mot99"], "'mot15', 'mot16', 'mot17', 'mot20'"),
        ([*MOT, "--results"], "--results"),
        ([*MOT, "--results", "results", "more"], "unexpected extra argument"),
        ([*MOT, "--run", "--detections", "det", "--results", "results/A.txt"], "results/A.txt is not a folder"),
        ([*MOT, "--run", "--detections", "det", "--results", "det"], "det/A.txt is ground truth or detections"),
        (["evaluate", "mot", "--gt", "flat", "--run", "--detections", "det", "--results", "flat"],
         "flat/A.txt is ground truth or detections"),
        ([*MOT, "--results", "results", "--json", "gt"], "gt is a folder or a device"),
        ([*MOT, "--results", "results", "--json", ""], "a path cannot be empty"),
        ([*MOT, "--results", "results", "--json", "/dev/null"], "/dev/null is a folder or a device"),
        ([*MOT, "--results", "results", "--json", "results/A.txt/s.json"], "results/A.txt is not a folder"),
        (["evaluate"], ""),
        (["evaluate", "speed"], "No such command 'speed'"),
        (["evaluate", "detection"], "give the ground truth of sequences or the data.yaml"),
        (["evaluate", "detection", "--gt", "gt", "--data", "d.yaml"], "give the ground truth of sequences or the data"),
        (["evaluate", "detection", "--data", "d.yaml", "--detections", "det"], "go with --gt"),
        (["evaluate", "detection", "--data", "d.yaml", "--benchmark", "mot17"], "go with --gt"),
        (["evaluate", "detection", "--data", "d.yaml", "--sequences", "A"], "go with --gt"),
        (["evaluate", "reid", "--root", "gt"], "Missing option '--protocol'"),
        (["evaluate", "reid", "--root", "gt", "--protocol", "market"], "'market1501', 'dukemtmc', 'msmt17'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2_and_changes_nothing(motserve: Motserve, arguments: list[str], said: str) -> None:
    sequences("A")
    detections("A")
    put("results/A.txt", TRUTH)
    put("flat/A.txt", TRUTH)
    before = {path: Path(path).read_bytes() for path in files_in()}
    result = motserve(*arguments)
    if len(arguments) > 1:
        assert_usage(result, said)
    assert result.exit_code == 2
    assert {path: Path(path).read_bytes() for path in files_in()} == before


@pytest.mark.parametrize("command", [["mot"], ["reid"], ["detection"]])
def test_every_command_has_help(motserve: Motserve, command: list[str]) -> None:
    result = motserve("evaluate", *command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_a_link_to_a_document_stays_a_link(motserve: Motserve) -> None:
    sequences("A")
    put("results/A.txt", TRUTH)
    put("real/older.json", "older")
    Path("latest.json").symlink_to("real/older.json")
    assert motserve(*MOT, "--results", "results", "--json", "latest.json").exit_code == 0
    assert Path("latest.json").is_symlink()
    assert "combined" in document("real/older.json")


def test_a_folder_without_write_permission_is_refused_first(
    motserve: Motserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences("A")
    put("results/A.txt", "not read")
    Path("locked").mkdir()
    monkeypatch.setattr("os.access", lambda path, _: Path(path).name != "locked")  # root may write everywhere
    for target in ("locked/s.json", "locked/new/s.json"):
        assert_usage(motserve(*MOT, "--results", "results", "--json", target), "locked cannot be written to")
    assert files_in("locked") == []


def test_a_full_disk_keeps_the_older_document_without_a_traceback(
    motserve: Motserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences("A")
    put("results/A.txt", TRUTH)
    put("out/s.json", "older")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:20])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert_error(motserve(*MOT, "--results", "results", "--json", "out/s.json"), 1, "No space left on device")
    assert files_in("out") == ["s.json"]
    assert Path("out/s.json").read_text() == "older"


# --- evaluate mot --run


def test_written_tracks_of_detections_have_the_same_scores(motserve: Motserve) -> None:
    sequences("A", "B")
    detections("A", "B")
    result = motserve(*MOT, "--run", "--detections", "det", *NO_REID, "--results", "out", "--json", "s.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert files_in("out") == ["A.provenance.json", "A.txt", "B.provenance.json", "B.txt", "scores.json"]
    made = document("s.json")
    assert document("out/scores.json") == made
    assert made["sequences"]["A"]["MOTA"] == 1
    assert made["provenance"]["weights"] == {"detector": None, "reid": None}
    assert made["provenance"]["data"]["A"]["detections"]["file"] == "A.txt"
    finishing = {"regrouping", "linking", "interpolation"}
    assert set(made["provenance"]["config"]) == {"detector", "tracker", "reid", *finishing}
    assert motserve(*MOT, "--results", "out", "--json", "again.json").exit_code == 0
    assert document("again.json")["sequences"] == made["sequences"]
    assert document("again.json")["provenance"]["tracks"]["B"]["config"] == made["provenance"]["config"]


def test_scores_of_public_detections_are_ranked_or_converted_as_requested(motserve: Motserve) -> None:
    sequences("A", "B")
    put("det/A.txt", [(row[0], -1, *row[2:6], 60 + row[0]) for row in TRUTH])
    put("det/B.txt", [(row[0], -1, *row[2:6], 0.9) for row in TRUTH])
    call = (*MOT, "--run", "--detections", "det", *NO_REID, "--json", "s.json")
    result = motserve(*call)
    assert result.exit_code == 0, result.output
    said = (
        "scores of A range from 61 to 80 and are replaced by their rank (rank); --scores selects another conversion\n"
    )
    assert result.stderr == said
    data = document("s.json")["provenance"]["data"]
    assert (data["A"]["detections"]["scores"], data["B"]["detections"]["scores"]) == ("rank", "as-is")
    assert data["A"]["detections"]["score_range"] == [61, 80]
    result = motserve(*call, "--scores", "logistic")
    assert result.stderr == (
        "scores of A, B range from 0.9 to 80 and are read as log-odds (logistic); --scores selects another conversion\n"
    )
    assert document("s.json")["sequences"]["A"]["MOTA"] == 1
    assert document("s.json")["provenance"]["data"]["B"]["detections"]["scores"] == "logistic"
    assert_error(motserve(*call, "--scores", "as-is"), 3, "A.txt, line 1: score 61 is not a confidence in [0, 1]")
    assert_usage(motserve(*MOT, "--run", *NO_REID, "--scores", "rank"), "--scores goes with --detections")
    detection = ("evaluate", "detection", "--gt", "gt", "--detections", "det")
    assert "replaced by their rank" in motserve(*detection, "--scores", "rank").stderr


def test_boxes_at_the_limit_are_tracked_written_and_scored(motserve: Motserve) -> None:
    sequences("A")
    places = [(1, -1e6, -1e6, 2e6, 2e6), (2, 999_990, 999_900, 10, 100), (3, -1e6, 999_999, 1, 1)]
    rows = [(frame, *place) for frame in range(1, 21) for place in places]
    put("gt/A/gt/gt.txt", "".join(f"{f},{i},{x},{y},{w},{h},1,-1,-1,-1\n" for f, i, x, y, w, h in rows))
    put("det/A.txt", "".join(f"{f},-1,{x},{y},{w},{h},0.9\n" for f, _, x, y, w, h in rows))
    for tracker in ("bytetrack", "ocsort", "sort"):
        call = ("--run", "--detections", "det", *NO_REID, "--set", f"tracker.name={tracker}", "--results", "out")
        assert motserve(*MOT, *call, "--json", "s.json").exit_code == 0
        assert document("s.json")["combined"]["FP"] == 0
        assert document("s.json")["combined"]["FN"] == 0
        assert motserve(*MOT, "--results", "out", "--json", "again.json").exit_code == 0
        assert document("again.json")["combined"] == document("s.json")["combined"]


def test_scores_of_earlier_tracks_have_the_stamp_of_the_tracks_only(
    motserve: Motserve,
) -> None:
    sequences("A", "B")
    put("out/A.txt", CHANGED)
    write_stamp(Path("out/A.txt"), {"config": {"tracker": {"high_confidence": 0.123}}})
    put("out/B.txt", TRUTH)
    write_stamp(Path("out/B.txt"), {"config": {"tracker": {"high_confidence": 0.5}}})
    put("out/B.txt", CHANGED)  # by hand, after the stamp
    call = (*MOT, "--results", "out", "--json", "s.json", "--set", "tracker.high_confidence=0.65")
    assert motserve(*call).exit_code == 0
    stamp = document("s.json")["provenance"]
    assert list(stamp["tracks"]) == ["A"]
    assert stamp["tracks"]["A"]["config"] == {"tracker": {"high_confidence": 0.123}}
    assert stamp["config"] == {}


def test_gaps_are_interpolated_if_configured(motserve: Motserve) -> None:
    sequences("A")
    put("det/A.txt", [(row[0], -1, *row[2:6], 0.9) for row in TRUTH if not 8 <= row[0] <= 10])
    call = (*MOT, "--run", "--detections", "det", *NO_REID, "--results", "out", "--json", "s.json")
    assert motserve(*call).exit_code == 0
    assert document("s.json")["combined"]["FN"] == 6
    assert motserve(*call, "--set", "interpolation={max_gap_s: 0.5}").exit_code == 0
    assert document("s.json")["combined"]["FN"] == 0
    assert document("s.json")["provenance"]["config"]["interpolation"]["max_gap_s"] == 0.5


def test_without_a_folder_nothing_is_written(motserve: Motserve) -> None:
    sequences("A")
    detections("A")
    before = files_in()
    assert motserve(*MOT, "--run", "--detections", "det", *NO_REID).exit_code == 0
    assert files_in() == before


def test_a_sequence_without_a_length_has_that_of_its_ground_truth(motserve: Motserve) -> None:
    sequences("A", ini=None)
    put("det/A.txt", [(row[0], -1, *row[2:6], 0.9) for row in TRUTH if row[0] <= 18])
    assert motserve(*MOT, "--run", "--detections", "det", *NO_REID, "--json", "s.json").exit_code == 0
    assert document("s.json")["combined"]["FN"] == 4
    assert motserve("evaluate", "detection", "--gt", "gt", "--detections", "det", "--json", "d.json").exit_code == 0
    assert (document("d.json")["combined"]["images"], document("d.json")["combined"]["objects"]) == (20, 40)


def test_without_a_video_the_error_names_the_options(motserve: Motserve) -> None:
    sequences("A")
    detections("A")
    assert_error(motserve(*MOT, "--run"), 3, "no video of A", "--videos", "--detections")
    result = motserve(*MOT, "--run", "--detections", "det", "--results", "out")
    assert_error(result, 2, "A: reid.policy is on_demand", "give --videos or set reid.policy=off")
    assert not Path("out").exists()


def test_a_missing_folder_of_videos_is_an_error(motserve: Motserve, scene: Path, networks: list[str]) -> None:
    call = ("evaluate", "mot", "--gt", scene, "--run", *networks)
    assert_error(motserve(*call, "--videos", "none[1]"), 3, "there is no folder none[1]")
    assert_error(motserve(*call, "--videos", scene / "hall/hall.mp4"), 3, "there is no folder", "hall.mp4")


def test_detections_of_a_tracked_video_are_cached(
    motserve: Motserve, scene: Path, networks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("evaluate", "mot", "--gt", scene, "--run", *networks, "--json", "s.json")
    result = motserve(*call, "--results", "out")
    assert result.exit_code == 0, result.output
    first = document("s.json")
    assert first["sequences"]["hall"]["FN"] > 0
    assert {part["name"] for part in first["provenance"]["weights"].values()} == {"untrained.safetensors"}
    assert first["provenance"]["benchmarks"] == {"hall": "mot17"}
    assert len(read_mot("out/hall.txt")) > 0

    def refuse(*_: object) -> None:
        raise AssertionError("everything is in the cache")

    for name in ("build_detector", "build_embedder"):
        monkeypatch.setattr(f"motserve.lab.experiments.models.{name}", refuse)
    assert motserve(*call).exit_code == 0
    assert document("s.json")["sequences"] == first["sequences"]


def test_an_unusable_video_leaves_no_files(motserve: Motserve, scene: Path, networks: list[str]) -> None:
    call = (
        "evaluate",
        "mot",
        "--gt",
        scene,
        "--run",
        *networks,
        "--videos",
        "v",
        "--results",
        "out",
        "--json",
        "s.json",
    )
    data = (scene / "hall/hall.mp4").read_bytes()
    for broken in (b"no video", data[:-2000]):
        put("v/hall.mp4", broken)
        assert_error(motserve(*call), 3, "hall.mp4")
        assert files_in() == ["v/hall.mp4"]
    put("v/hall.mp4", data)
    result = motserve(*call, "--set", "detector.weights=/none.pt")
    assert_error(result, 4, "/none.pt")
    assert files_in() == ["v/hall.mp4"]


def test_an_interrupted_run_leaves_no_files(motserve: Motserve, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences("A", "B")
    detections("A", "B")
    before = files_in()
    from motserve.lab.experiments import mot as steps

    tracked = track_sequence
    calls: list[str] = []

    def interrupted(sequence: Any, *rest: Any) -> Any:
        calls.append(sequence.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return tracked(sequence, *rest)

    monkeypatch.setattr(steps, "track_sequence", interrupted)
    call = (*MOT, "--run", "--detections", "det", *NO_REID, "--results", "out", "--json", "s.json")
    result = motserve(*call)
    assert result.exit_code not in (0, 2, 3)
    assert "Traceback" not in result.output
    assert files_in() == before
    assert motserve(*call).exit_code == 0


# --- evaluate detection


def test_detections_are_scored_by_sequence_and_together(motserve: Motserve) -> None:
    sequences("A", "B")
    detections("A")
    put("det/B.txt", [(row[0], -1, *row[2:6], 0.9) for row in walk(1, range(1, 21))])
    result = motserve("evaluate", "detection", "--gt", "gt", "--detections", "det", "--json", "d.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    scores = document("d.json")
    assert scores["sequences"]["A"] == pytest.approx(
        {"mAP50": 1, "mAP50-95": 1, "recall@0.1FPPI": 1, "recall@1FPPI": 1, "images": 20, "objects": 40}
    )
    assert scores["sequences"]["B"]["mAP50"] == pytest.approx(51 / 101)
    assert scores["combined"]["recall@1FPPI"] == pytest.approx(60 / 80)
    assert scores["provenance"]["weights"] == {"detector": None}
    assert "pycocotools" in scores["provenance"]["libraries"]
    assert "combined" in result.stdout


def test_the_configured_confidence_does_not_affect_average_precision(motserve: Motserve) -> None:
    sequences("A")
    put("det/A.txt", [(row[0], -1, *row[2:6], 0.3) for row in TRUTH])
    call = ("evaluate", "detection", "--gt", "gt", "--detections", "det", "--json", "d.json")
    said = motserve(*call, "--set", "detector.confidence=0.65").stderr
    assert said.startswith("detector.confidence=0.65 does not affect average precision")
    assert document("d.json")["combined"]["mAP50"] == 1


def test_scores_without_ground_truth_are_dashes(motserve: Motserve) -> None:
    put("gt/A.txt", "")
    put("det/A.txt", "1,-1,1,1,10,10,0.5\n")
    result = motserve("evaluate", "detection", "--gt", "gt", "--detections", "det", "--json", "d.json")
    assert result.exit_code == 0, result.output
    assert "nan" not in result.stdout
    assert document("d.json")["combined"]["mAP50"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1,-1,1,1,4e8,5,0.5\n", "A.txt, line 1: the box reaches beyond 1000000 pixels"),
        ("1,-1,1,1,5,5,0.5\n21,-1,1,1,5,5,0.5\n", "A.txt, line 2: frame after the end of A, which has 20"),
        ("1,-1,1,1,5\n", "A.txt, line 1: 5 columns"),
    ],
)
def test_detections_that_cannot_be_scored_are_exit_code_3(motserve: Motserve, content: str, said: str) -> None:
    sequences("A")
    put("det/A.txt", content)
    before = files_in()
    result = motserve("evaluate", "detection", "--gt", "gt", "--detections", "det", "--json", "d.json")
    assert_error(result, 3, said)
    assert files_in() == before


def test_detection_needs_rules_and_length_that_fit(motserve: Motserve) -> None:
    sequences("A")
    detections("A")
    call = ("evaluate", "detection", "--gt", "gt", "--detections", "det")
    assert_error(motserve(*call, "--benchmark", "mot17"), 3, "gt/A/gt/gt.txt, line 1: class -1 is unknown to mot17")
    put("gt/A/gt/gt.txt", [*TRUTH, (21, 1, 1, 1, 2, 2, 1, -1, -1, -1)])
    assert_error(motserve(*call), 3, "gt/A/gt/gt.txt, line 41: frame 21 of a sequence of 20 frames")


def test_the_detector_is_scored_on_a_yolo_data_set(motserve: Motserve, networks: list[str]) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        put(f"set[1]/labels/val/{name}.txt", "0 0.5 0.5 0.4 0.8\n")
        Path("set[1]/images/val").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"set[1]/images/val/{name}.png", random.integers(0, 255, (96, 128, 3), np.uint8))
    put("set[1]/data.yaml", "val: images/val\nnames: [pedestrian, car]\n")
    call = ("evaluate", "detection", "--data", "set[1]/data.yaml", *networks, "--json", "d.json")
    result = motserve(*call)
    assert result.exit_code == 0, result.output
    scores = document("d.json")
    assert (scores["combined"]["images"], scores["combined"]["objects"]) == (2, 2)
    assert scores["provenance"]["weights"]["detector"]["name"] == "untrained.safetensors"
    assert scores["provenance"]["data"]["val"]["labels"]["files"] == 3
    assert_error(motserve(*call, "--split", "test"), 3, "set[1]/data.yaml must have the keys `names` and `test`")
    put("set[1]/labels/val/b.txt", "0 0.5 0.5 0.4 0.8\n7 0.5 0.5 0.4 0.8\n")
    assert_error(motserve(*call), 3, "set[1]/labels/val/b.txt, line 2: class 7 is unknown; the data set has 0, 1")
    put("set[1]/data.yaml", "val: images/val\nnames: [dog, car]\n")
    put("set[1]/labels/val/b.txt", "")
    assert_error(motserve(*call), 3, "the detector detects none of its classes dog, car, only person")


# --- evaluate reid


@pytest.fixture
def crops(motserve: Motserve) -> Path:
    """Two views of each of three people in either part, in the layout of Market-1501."""
    random = np.random.default_rng(0)
    for part in ("query", "bounding_box_test"):
        Path("crops[1]", part).mkdir(parents=True)
        for person in (1, 2, 3):
            for camera in (1, 2):
                image = random.integers(0, 255, (64, 32, 3), np.uint8)
                cv2.imwrite(f"crops[1]/{part}/{person:04}_c{camera}s1_00000{person}_0{camera}.png", image)
    return Path("crops[1]")


def test_embeddings_are_scored_with_and_without_re_ranking(
    motserve: Motserve, crops: Path, networks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("evaluate", "reid", "--root", crops, "--protocol", "market1501", *networks, "--json", "r.json")
    result = motserve(*call, "--rerank")
    assert result.exit_code == 0, result.output
    assert "crops[1], market1501" in result.stdout
    scores = document("r.json")
    assert set(scores) == {"scores", "reranked", "provenance"}
    assert scores["scores"]["queries"] == 6
    assert 0 < scores["scores"]["mAP"] <= 1
    assert scores["provenance"]["protocol"] == "market1501"
    assert scores["provenance"]["weights"]["reid"]["name"] == "untrained.safetensors"
    monkeypatch.setattr("motserve.lab.experiments.models.build_embedder", None)  # everything is in the cache
    assert motserve(*call).exit_code == 0
    assert document("r.json")["scores"] == scores["scores"]
    assert "reranked" not in document("r.json")


def test_crops_that_cannot_be_used_are_exit_code_3(motserve: Motserve, crops: Path, networks: list[str]) -> None:
    call = ("evaluate", "reid", "--root", crops, *networks, "--json", "r.json", "--protocol")
    assert_error(motserve(*call, "msmt17"), 3, "crops[1] is not laid out as msmt17", "bounding_box_test/, query/")
    assert_error(motserve("evaluate", "reid", "--root", "none", "--protocol", "market1501", *networks), 3, "none")
    put(crops / "query/0009_c1s1_000009_01.jpg", b"no picture")
    assert_error(
        motserve(*call, "market1501"), 3, "crops[1]/query/0009_c1s1_000009_01.jpg is not a complete JPEG or PNG"
    )
    put(crops / "query/holiday.jpg", b"no name")
    assert_error(motserve(*call, "market1501"), 3, "crops[1]/query/holiday.jpg: the name must give")
    shutil.rmtree(crops / "query")
    assert_error(motserve(*call, "market1501"), 3, "it has no query")
    assert not Path("r.json").exists()
    result = motserve(*call, "cross-camera", "--set", "reid.weights=none.onnx")
    assert_error(result, 4, "none.onnx")


# --- on real data


@pytest.fixture(scope="module")
def real_tracks(data_dir: Path) -> dict[str, list[bytes]]:
    """Tracks of the three real sequences, made from YOLOv8n's detections, as stored lines."""
    config = load_config(overrides={"reid": {"policy": "off"}})
    tracks = {}
    for name, truth in find_truth(data_dir / "mot").items():
        detected = read_detections(data_dir / "dets/yolov8n_640" / f"{name}.txt", truth, config)
        tracks[name] = [
            encode_frame(frame, detected.class_names) for frame in track_detections(detected, config).frames
        ]
    return tracks


def test_real_tracks_of_every_format_have_the_same_scores(
    motserve: Motserve, data_dir: Path, real_tracks: dict[str, list[bytes]]
) -> None:
    results = []
    for format_ in FORMATS:
        for name, lines in real_tracks.items():
            put(f"{format_}/{name}{SUFFIXES[format_]}", b"".join(export(lines, format_)))
        result = motserve("evaluate", "mot", "--gt", data_dir / "mot", "--results", format_, "--json", "s.json")
        assert result.exit_code == 0, result.output
        results.append({key: document("s.json")[key] for key in ("sequences", "combined", "curves")})
    assert results == [results[0]] * 4
    assert list(results[0]["sequences"]) == ["MOT17-09", "PETS09-S2L1", "TUD-Campus"]
    assert 0.3 < results[0]["combined"]["HOTA"] < 0.8
    assert "rules: MOT17-09 mot17, PETS09-S2L1 mot15, TUD-Campus mot15" in result.stdout
    call = ("evaluate", "mot", "--gt", data_dir / "mot", "--run", "--detections", data_dir / "dets/yolov8n_640")
    assert motserve(*call, *NO_REID, "--json", "run.json").exit_code == 0
    assert document("run.json")["sequences"] == results[0]["sequences"]


@pytest.mark.parametrize(
    ("protocol", "queries", "rank_1", "mean_ap"),
    [("market1501", 148, 0.378, 0.286), ("cross-camera", 592, 0.787, 0.626)],
)
def test_real_crops(
    motserve: Motserve, data_dir: Path, protocol: str, queries: int, rank_1: float, mean_ap: float
) -> None:
    weights = data_dir / "models/reid/person-reidentification-retail-0288.onnx"
    result = motserve(
        "evaluate", "reid", "--root", data_dir / "reid_images/PKU-Reid-74", "--protocol", protocol, "--json", "r.json",
        "--set", f"reid.weights={weights}", "--set", "reid.onnx_input=bgr255", "--set", "reid.device=cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    scores = document("r.json")["scores"]
    assert scores["queries"] == queries
    assert (scores["Rank-1"], scores["mAP"]) == pytest.approx((rank_1, mean_ap), abs=0.001)

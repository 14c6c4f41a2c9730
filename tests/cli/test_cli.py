from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from cli_checks import Motserve, assert_error, files_in

from motserve import __version__
from motserve.config import Config
from motserve.results import read_mot


def test_version(motserve: Motserve) -> None:
    result = motserve("--version")
    assert (result.exit_code, result.stdout) == (0, f"motserve {__version__}\n")


@pytest.mark.parametrize(
    "command", [[], ["track"], ["models"], ["config"], ["benchmark"], ["benchmark", "tracker"], ["benchmark", "reid"]]
)
def test_every_command_has_help(motserve: Motserve, command: list[str]) -> None:
    result = motserve(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_the_output_of_config_show_can_be_loaded(motserve: Motserve, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.yaml").write_text("detector: {confidence: 0.2, nms_iou: 0.5}")
    monkeypatch.setenv("MOTSERVE_PIPELINE__WINDOW", "3")
    result = motserve("config", "show", "-c", "a.yaml", "--set", "detector.nms_iou=0.6", "-s", "reid.policy=off")
    assert result.exit_code == 0
    shown = Config(**yaml.safe_load(result.stdout))
    assert (shown.detector.confidence, shown.detector.nms_iou) == (0.2, 0.6)
    assert (shown.pipeline.window, shown.reid.policy) == (3, "off")


def test_config_schema_is_json_schema(motserve: Motserve) -> None:
    result = motserve("config", "schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == Config.model_json_schema()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "detector.confidnce=0.1"], "detector.confidnce"),
        (["--set", "detector.confidence"], "section.key=value"),
        (["--set", "detector.classes=[/a]", "--set", "detector.device=[b]"], "detector.device"),
        (["--config", "[/none].yaml"], "[/none].yaml"),
        (["--set", "detector.classes=["], "not YAML"),
    ],
)
def test_wrong_configuration_is_exit_code_2(motserve: Motserve, arguments: list[str], said: str) -> None:
    assert_error(motserve("config", "show", *arguments), 2, said)


def test_wrong_usage_is_exit_code_2(motserve: Motserve, clip: Path) -> None:
    for arguments in (
        ["track"],
        ["trak"],
        ["track", clip, "--format", "xml"],
        ["benchmark", "tracker", "--people", "0"],
        ["benchmark", "identities", "--identities", "10,x"],
        ["benchmark", "identities", "--identities", "9" * 30],
        ["benchmark", "tracker", "--json", "n" * 240],
        ["benchmark", "tracker", "--seed", "9" * 30],
    ):
        result = motserve(*arguments)
        assert result.exit_code == 2
        assert "Traceback" not in result.output


def test_models_list_shows_available_and_used_weights(motserve: Motserve, untrained_detector: Path) -> None:
    Path("models").mkdir()
    Path("models/mine[1].onnx").write_bytes(b"weights")
    chosen = f"detector.weights=[none.pt, {untrained_detector}]"
    reid = "reid.weights=['mine[1].onnx']"
    cache = f"cache_dir={Path.cwd() / 'cache'}"
    result = motserve("models", "list", "--set", chosen, "--set", reid, "--set", cache)
    assert result.exit_code == 0
    text = result.stdout
    assert text.count("yes") == 2
    assert "not on" in text
    assert "mine" in text
    assert "[1]" in text


def test_models_pull_fails_when_the_preferred_weights_are_not_available(
    motserve: Motserve, untrained_detector: Path
) -> None:
    Path("models").mkdir()
    Path("models/reid.onnx").write_bytes(b"weights")
    result = motserve(
        "models", "pull", "--set", f"detector.weights=[none.onnx, {untrained_detector}]",
        "--set", "reid.weights=reid.onnx", "--set", f"cache_dir={Path.cwd() / 'cache'}",
    )  # fmt: skip
    assert result.exit_code == 4
    assert result.stderr.splitlines()[-1].startswith("error: preferred weights are not available; detector: none.onnx")
    assert "reid.onnx" in result.stdout


def test_gaps_are_interpolated_if_configured(motserve: Motserve, clip: Path, untrained: Sequence[str]) -> None:
    """The untrained detector returns a person in some frames."""
    states = {}
    for name, settings in (("plain", ()), ("filled", ("--set", "interpolation={max_gap_s: 5, smoothing_s: 0.2}"))):
        assert motserve("track", clip, *untrained, *settings, "--output", name).exit_code == 0
        frames = json.loads(Path(name, "tracks.json").read_bytes())["frames"]
        assert [frame["frame"] for frame in frames] == list(range(12))
        states[name] = [track["state"] for frame in frames for track in frame["tracks"]]
    assert set(states["plain"]) == {"measured"}
    assert states["filled"].count("measured") == len(states["plain"])
    assert files_in(Path("filled")) == ["tracks.json"]


def test_track_gives_the_same_tracks_in_every_format(motserve: Motserve, clip: Path, untrained: Sequence[str]) -> None:
    for format_ in ("json", "ndjson", "mot", "csv"):
        result = motserve("track", clip, *untrained, "--output", format_, "--format", format_)
        assert result.exit_code == 0, result.output
        assert "clip[1].mp4" in result.stderr
    assert files_in() == [
        "csv/tracks.csv", "csv/tracks.provenance.json", "json/tracks.json", "mot/tracks.provenance.json",
        "mot/tracks.txt", "ndjson/tracks.ndjson", "ndjson/tracks.provenance.json",
    ]  # fmt: skip

    document = json.loads(Path("json/tracks.json").read_bytes())
    assert document["video"]["name"] == "clip[1].mp4"
    assert (document["video"]["width"], document["video"]["height"]) == (192, 112)
    assert document["models"]["detector"]["name"] == "untrained.safetensors"
    assert len(document["models"]["reid"]["sha256"]) == 64
    beside = json.loads(Path("csv/tracks.provenance.json").read_bytes())
    for provenance in (document["provenance"], beside):
        assert provenance["motserve"]["version"] == __version__
        assert provenance["weights"] == document["models"]
        assert provenance["data"]["clip[1].mp4"]["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
        assert provenance["config"]["detector"]["image_size"] == 96
    frames = document["frames"]
    assert [frame["frame"] for frame in frames] == list(range(12))
    rows = [(frame["frame"], frame["timestamp"], track) for frame in frames for track in frame["tracks"]]
    assert len(rows) > 12
    summary = document["summary"]
    assert (summary["status"], summary["frames"]) == ("done", 12)
    assert summary["identities"] == len({track["id"] for *_, track in rows})
    assert summary["embeddings"] > 0

    assert [json.loads(line) for line in Path("ndjson/tracks.ndjson").read_text().splitlines()] == frames

    mot = read_mot("mot/tracks.txt")
    assert list(zip(mot.frames.tolist(), mot.ids.tolist(), strict=True)) == [(f, t["id"]) for f, _, t in rows]
    np.testing.assert_allclose(mot.boxes, [t["box"] for *_, t in rows], atol=0.011)
    np.testing.assert_allclose(mot.scores, [t["confidence"] for *_, t in rows], atol=1e-4)

    table = list(csv.DictReader(io.StringIO(Path("csv/tracks.csv").read_text())))
    assert [
        (int(r["frame"]), float(r["timestamp"]), int(r["identity"]), int(r["track"]), r["class"]) for r in table
    ] == [(f, s, t["id"], t["track"], t["class"]) for f, s, t in rows]
    np.testing.assert_allclose(
        [[float(r[k]) for k in ("x1", "y1", "x2", "y2")] for r in table], [t["box"] for *_, t in rows]
    )


def test_track_writes_an_annotated_video_and_chooses_a_folder(
    motserve: Motserve, clip: Path, untrained: Sequence[str]
) -> None:
    result = motserve("track", clip, *untrained, "--set", "reid.policy=off", "--save-video")
    assert result.exit_code == 0, result.output
    assert files_in(Path()) == ["runs/clip[1]/annotated.mp4", "runs/clip[1]/tracks.json"]
    document = json.loads(Path("runs/clip[1]/tracks.json").read_bytes())
    assert document["models"]["reid"] is None
    assert document["summary"]["embeddings"] == 0
    video = cv2.VideoCapture("runs/clip[1]/annotated.mp4")
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12


def test_a_file_that_is_not_a_video_is_exit_code_3(motserve: Motserve, untrained: Sequence[str]) -> None:
    Path("text[b].mp4").write_text("not a video")
    assert_error(motserve("track", "text[b].mp4", *untrained), 3, "text[b].mp4")
    assert_error(motserve("track", "none.mp4", *untrained), 3, "none.mp4")
    assert files_in(Path()) == ["text[b].mp4"]


def test_a_folder_that_cannot_be_made_is_exit_code_2(motserve: Motserve, clip: Path, untrained: Sequence[str]) -> None:
    Path("file").write_text("in the way")
    result = motserve("track", clip, *untrained, "--output", "file")
    assert result.exit_code == 2
    assert "cannot be made" in result.output
    assert files_in(Path()) == ["file"]


def test_unavailable_weights_are_exit_code_4(motserve: Motserve, clip: Path) -> None:
    assert_error(motserve("track", clip, "--set", "detector.weights=/none.pt"), 4, "/none.pt")
    Path("broken.pt").write_bytes(b"no weights")
    assert_error(
        motserve("track", clip, "--set", "detector.weights=broken.pt", "--set", "reid.policy=off"), 4, "broken.pt"
    )
    assert files_in(Path()) == ["broken.pt"]


def test_an_unknown_class_is_exit_code_2(motserve: Motserve, clip: Path, untrained: Sequence[str]) -> None:
    assert_error(motserve("track", clip, *untrained, "--set", "detector.classes=unicorn"), 2, "unicorn", "person")


def test_tracks_before_a_broken_picture_are_kept_and_marked(motserve: Motserve, untrained: Sequence[str]) -> None:
    Path("frames").mkdir()
    for number in range(20):
        cv2.imwrite(f"frames/{number:06}.png", np.full((64, 96, 3), 10 * number, np.uint8))
    broken = Path("frames/000013.png")
    broken.write_bytes(broken.read_bytes()[:60])
    result = motserve("track", "frames", *untrained, "--output", "out")
    assert result.exit_code == 3
    assert "000013.png" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    tracks = json.loads(Path("out/tracks.json").read_bytes())
    assert (tracks["summary"]["status"], len(tracks["frames"])) == ("incomplete", 13)
    assert files_in("out") == ["tracks.json"]


def test_a_failure_keeps_older_results(motserve: Motserve, clip: Path, untrained: Sequence[str]) -> None:
    Path("out").mkdir()
    Path("out/tracks.json").write_text("older")
    into = ("--output", "out", "--overwrite")
    assert motserve("track", clip, *untrained, "-s", "reid.weights=/none.onnx", *into).exit_code == 4
    broken = Path("broken.mp4")
    broken.write_bytes(clip.read_bytes()[:40])
    assert motserve("track", broken, *untrained, *into).exit_code == 3
    assert files_in(Path("out")) == ["tracks.json"]
    assert Path("out/tracks.json").read_text() == "older"


def test_benchmark_writes_its_rows(motserve: Motserve) -> None:
    result = motserve("benchmark", "tracker", "--people", "3", "--frames", "5", "--json", "new/rows.json")
    assert result.exit_code == 0, result.output
    rows = json.loads(Path("new/rows.json").read_bytes())
    assert [(row["tracker"], row["people"]) for row in rows] == [("bytetrack", 3), ("ultralytics-bytetrack-equal", 3)]
    assert all(0 < row["median_ms"] <= row["p95_ms"] for row in rows)
    assert files_in(Path()) == ["new/rows.json", "new/rows.provenance.json"]


def test_the_search_across_videos_is_measured(motserve: Motserve) -> None:
    result = motserve("benchmark", "identities", "--identities", "5,600", "--json", "new/rows.json")
    assert result.exit_code == 0, result.output
    rows = json.loads(Path("new/rows.json").read_text())
    assert [(row["identities"], row["embeddings"]) for row in rows] == [(5, 20), (600, 2400)]
    assert rows[0]["recall"] == 1
    assert all(row["recall"] > 0.5 and row["memory_bytes"] > 0 and row["disk_bytes"] > 0 for row in rows)

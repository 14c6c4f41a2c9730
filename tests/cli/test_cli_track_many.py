"""`motserve track` of several videos, its short options, and its output for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cli_checks import Motserve, assert_error, document, files_in
from rich.console import Console

from motserve.cli.output.video_progress import LINE_EVERY_S, VideoProgress, video_progress
from motserve.config import Config
from motserve.pipeline.local_models import LocalModels
from motserve.video.listing import list_videos


@pytest.fixture
def plain(untrained: Sequence[str]) -> Sequence[str]:
    return [*untrained, "--set", "reid.policy=off"]


@pytest.fixture
def three(motserve: Motserve, clip: Path) -> list[str]:
    """Three videos in a folder, with a text beside them."""
    Path("day").mkdir()
    names = ["day/a.mp4", "day/b.mp4", "day/c.MKV"]
    for name in names:
        Path(name).write_bytes(clip.read_bytes())
    Path("day/notes.txt").write_text("mine")
    Path("day/._a.mp4").write_bytes(b"of macOS")
    return names


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configurations for which models were loaded."""
    configs: list[Any] = []

    def load(config: Config, has_detector: bool) -> LocalModels:
        configs.append(config)
        return LocalModels(config, has_detector)

    monkeypatch.setattr("motserve.pipeline.video_run.LocalModels", load)
    return configs


@pytest.mark.parametrize(
    "given", [["day/a.mp4", "day/b.mp4", "day/c.MKV"], ["day"], ["day/*.[mM]*"], ["day", "day/a.mp4"]]
)
def test_each_video_has_a_folder_and_the_models_are_loaded_once(
    motserve: Motserve, three: list[str], plain: Sequence[str], loaded: list[Any], given: list[str]
) -> None:
    result = motserve("track", *given, *plain)
    assert result.exit_code == 0, result.output
    assert files_in("runs") == ["a/tracks.json", "b/tracks.json", "c/tracks.json"]
    assert len(loaded) == 1
    frames = [document(f"runs/{name}/tracks.json")["frames"] for name in "abc"]
    assert frames[0] == frames[1] == frames[2]


def test_later_runs_get_numbers_or_replace_those_of_their_name(
    motserve: Motserve, three: list[str], plain: Sequence[str]
) -> None:
    for more in ([], [], ["--overwrite", "--format", "csv"]):
        assert motserve("track", *three[:2], "-o", "out", *plain, *more).exit_code == 0
    expected = ["a-2/tracks.json", "a/tracks.csv", "a/tracks.provenance.json"]
    assert [name for name in files_in("out") if name.startswith("a")] == expected
    assert motserve("track", three[0], *plain).exit_code == 0
    assert motserve("track", three[0], *plain, "--overwrite", "--format", "csv").exit_code == 0
    assert files_in("runs") == ["a/tracks.csv", "a/tracks.provenance.json"]
    Path("a.mp4").write_bytes(Path("day/a.mp4").read_bytes())
    assert_error(motserve("track", "a.mp4", "day/a.mp4", *plain, "--overwrite"), 2, "2 videos are named a")


def test_a_broken_video_does_not_stop_the_others(
    motserve: Motserve, three: list[str], plain: Sequence[str], loaded: list[Any]
) -> None:
    data = Path("day/a.mp4").read_bytes()
    Path("day/b.mp4").write_bytes(data[: len(data) * 3 // 4])
    Path("day/0.mp4").write_text("not a video")
    result = motserve("track", "day", "none.mp4", *plain, "--json", "--quiet")
    assert result.exit_code == 3
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["video"], line["status"]) for line in lines] == [
        ("0.mp4", "failed"), ("a.mp4", "done"), ("b.mp4", "incomplete"), ("c.MKV", "done"), ("none.mp4", "failed")
    ]  # fmt: skip
    assert [line.partition(" ")[0] for line in result.stderr.splitlines()] == ["error:"] * 4
    assert result.stderr.splitlines()[-1] == "error: 3 of 5 videos failed"
    assert files_in("runs") == ["a/tracks.json", "b/tracks.json", "c/tracks.json"]
    assert len(loaded) == 1


def test_settings_that_are_wrong_stop_at_once(motserve: Motserve, three: list[str]) -> None:
    assert_error(motserve("track", "day", "-m", "none.safetensors", "--quiet"), 4, "none.safetensors")
    assert not Path("runs").exists()


def test_one_line_of_json_and_nothing_else(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    result = motserve("track", clip, *plain, "--json", "--quiet", "--save-video", "-o", "out")
    assert (result.exit_code, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert (shown["video"], shown["status"], shown["frames"]) == (clip.name, "done", 12)
    assert (shown["tracks"], shown["annotated"]) == ("out/tracks.json", "out/annotated.mp4")
    failed = motserve("track", "none.mp4", *plain, "--json")
    assert failed.exit_code == 3
    assert json.loads(failed.stdout) == {
        "video": "none.mp4", "status": "failed", "error": "there is no video at none.mp4"
    }  # fmt: skip
    silent = motserve("track", clip, *plain, "-q")
    assert (silent.exit_code, silent.stdout, silent.stderr) == (0, "", "")


def test_short_options_are_settings_and_set_wins(
    motserve: Motserve, clip: Path, untrained: Sequence[str], untrained_detector: Path
) -> None:
    short = ["-m", untrained_detector, "--tracker", "sort", "--classes", " person", "--conf", "0.25", "-q"]
    result = motserve("track", clip, *untrained[2:], *short, "--set", "tracker.confirm_hits=1")
    assert result.exit_code == 0, result.output
    config = document(Path("runs") / clip.stem / "tracks.json")["provenance"]["config"]
    assert (config["tracker"]["name"], config["tracker"]["confirm_hits"]) == ("sort", 1)
    assert (config["detector"]["classes"], config["detector"]["confidence"]) == (["person"], 0.25)
    assert_error(motserve("track", clip, *untrained, "--classes", "person,car"), 2, "'car' is no class of")
    assert_error(motserve("track", clip, "--tracker", "kalman"), 2, "there is no tracker 'kalman'; choose bytetrack")
    assert_error(motserve("track", clip, "--conf", "2"), 2, "detector.confidence")


def test_what_an_argument_names(motserve: Motserve, three: list[str]) -> None:
    assert list_videos(Path("day")) == [Path(name) for name in three]
    assert list_videos(Path("day/*.mp4")) == [Path("day/a.mp4"), Path("day/b.mp4")]
    Path("day/x[1].mp4").write_bytes(b"")
    assert list_videos(Path("day/x[1].mp4")) == [Path("day/x[1].mp4")]
    Path("pictures/img1").mkdir(parents=True)
    Path("pictures/img1/000001.jpg").write_bytes(b"")
    assert list_videos(Path("pictures")) == [Path("pictures")]
    for nothing in ("none.mp4", "none*.mp4", "pictures/img1/x*", "n" * 300):
        assert list_videos(Path(nothing)) == [Path(nothing)]
    Path("empty").mkdir()
    assert list_videos(Path("empty")) == [Path("empty")]


def test_without_a_terminal_progress_is_lines_from_time_to_time() -> None:
    console, now = Console(file=StringIO(), width=20), [0.0]
    notify = VideoProgress(console, None, is_quiet=False, clock=lambda: now[0]).step("tracking", "a[1].mp4")
    for done, seconds in (
        (0, 0),
        (10, LINE_EVERY_S / 2),
        (20, LINE_EVERY_S),
        (30, LINE_EVERY_S + 1),
        (50, 2 * LINE_EVERY_S),
    ):
        now[0] = seconds
        notify(done, 100 if done < 50 else None)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.splitlines() == [
        "tracking a[1].mp4: 20 of 100 frames, 2.0 frames/s",
        "tracking a[1].mp4: 50 frames, 2.5 frames/s",
    ]


def test_a_terminal_shows_a_bar_and_quiet_nothing() -> None:
    for is_quiet in (False, True):
        console = Console(file=StringIO(), force_terminal=True, width=100)
        with video_progress(console, is_quiet) as progress:
            progress.step("tracking", "a[1].mp4")(5, 10)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("tracking a[1].mp4" in shown, "5/10" in shown) == (not is_quiet, not is_quiet)

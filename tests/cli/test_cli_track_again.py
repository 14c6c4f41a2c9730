"""`motserve track` of a video that was tracked before: `--resume`, cached detections, `--detections`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_checks import Motserve, assert_error, document, files_in


@pytest.fixture
def plain(untrained: Sequence[str]) -> Sequence[str]:
    return [*untrained, "--set", "reid.policy=off"]


@pytest.fixture
def two(motserve: Motserve, clip: Path) -> None:
    """Two videos in a folder."""
    Path("day").mkdir()
    Path("day/a.mp4").write_bytes(clip.read_bytes())
    Path("day/b.mp4").write_bytes(clip.read_bytes()[:-1] + b"b")


def lines(result: Any) -> list[tuple[str, str]]:
    assert result.exit_code == 0, result.output
    return [(line["video"], line["status"]) for line in map(json.loads, result.stdout.splitlines())]


@pytest.mark.usefixtures("two")
def test_resume_skips_what_is_finished(motserve: Motserve, plain: Sequence[str]) -> None:
    assert motserve("track", "day/a.mp4", *plain).exit_code == 0
    resume = ["track", "day", *plain, "--resume", "--json"]
    result = motserve(*resume)
    assert lines(result) == [("a.mp4", "skipped"), ("b.mp4", "done")]
    assert "a.mp4: already tracked, see runs/a/tracks.json" in result.stderr
    assert lines(motserve(*resume, "--quiet")) == [("a.mp4", "skipped"), ("b.mp4", "skipped")]
    assert files_in("runs") == ["a/tracks.json", "b/tracks.json"]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "changed",
    [["--tracker", "sort"], ["--conf", "0.5"], ["--save-video"], ["--format", "csv"], ["--set", "linking={}"]],
)
def test_other_settings_are_another_run(motserve: Motserve, plain: Sequence[str], changed: list[str]) -> None:
    track = ["track", "day/a.mp4", *plain, "--resume", "--json"]
    assert lines(motserve(*track)) == [("a.mp4", "done")]
    for status in ("done", "skipped"):
        assert lines(motserve(*track, *changed)) == [("a.mp4", status)]
    assert lines(motserve(*track)) == [("a.mp4", "skipped")]
    assert len(files_in("runs/a-2")) == (1 if changed[-1] != "csv" and changed[-1] != "--save-video" else 2)


@pytest.mark.usefixtures("two")
def test_a_changed_video_is_another_run(motserve: Motserve, plain: Sequence[str]) -> None:
    track = ["track", "day/a.mp4", *plain, "--output", "out", "--resume", "--json"]
    assert [lines(motserve(*track)), lines(motserve(*track))] == [[("a.mp4", "done")], [("a.mp4", "skipped")]]
    Path("day/b.mp4").replace("day/a.mp4")
    assert_error(motserve(*track), 2, "out holds tracks.json of an earlier run; --overwrite")
    assert lines(motserve(*track, "--overwrite")) == [("a.mp4", "done")]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "content", ["", "{}", '{"provenance": {"data": 3}}', '{"provenance": {"incomplete": "cut off"}}']
)
def test_tracks_that_cannot_be_judged_are_not_trusted(motserve: Motserve, plain: Sequence[str], content: str) -> None:
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/tracks.json").write_text(content)
    assert lines(motserve("track", "day/a.mp4", *plain, "--resume", "--json")) == [("a.mp4", "done")]
    assert Path("runs/a/tracks.json").read_text() == content


@pytest.mark.usefixtures("two")
def test_cached_detections_are_named(motserve: Motserve, plain: Sequence[str]) -> None:
    first = motserve("track", "day/a.mp4", *plain)
    again = motserve("track", "day/a.mp4", *plain, "--tracker", "sort", "--json")
    assert "from an earlier run" not in first.stderr
    assert "of 12 frames from an earlier run" in again.stderr
    assert json.loads(again.stdout)["frames_reused"] == 12


@pytest.mark.usefixtures("two")
def test_detections_of_a_file_need_no_detector(motserve: Motserve) -> None:
    rows = [f"{frame},-1,{10 + frame},20,40,80,0.9,-1,-1,-1" for frame in range(1, 13)]
    Path("det.txt").write_text("\n".join(rows))
    settings = ["--detections", "det.txt", "-m", "none.pt", "--set", "reid.policy=off"]
    result = motserve("track", "day/a.mp4", *settings)
    assert result.exit_code == 0, result.output
    tracks = document("runs/a/tracks.json")
    assert tracks["summary"]["identities"] == 1
    assert tracks["provenance"]["data"]["a.mp4"]["detections"]["file"] == "det.txt"
    assert lines(motserve("track", "day/a.mp4", *settings, "--resume", "--json")) == [("a.mp4", "skipped")]
    Path("det.txt").write_text("\n".join(rows[1:]))
    assert lines(motserve("track", "day/a.mp4", *settings, "--resume", "--json")) == [("a.mp4", "done")]
    assert_error(motserve("track", "day", *settings), 2, "--detections is for a single video")
    assert_error(motserve("track", "day/a.mp4", "--detections", "none.txt"), 3, "there is no file none.txt")


def test_a_video_named_detections_is_compared_too(motserve: Motserve, clip: Path) -> None:
    Path("det.txt").write_text("1,-1,10,20,40,80,0.9")
    track = ["track", "detections", "--detections", "det.txt", "--set", "reid.policy=off", "--resume", "--json"]
    for content, status in ((b"a", "done"), (b"a", "skipped"), (b"b", "done")):
        Path("detections").write_bytes(clip.read_bytes() + content)
        assert lines(motserve(*track)) == [("detections", status)]

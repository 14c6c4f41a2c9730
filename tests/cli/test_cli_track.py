"""`motserve track` with unusual names, paths and disks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_checks import Motserve, assert_error, files_in

from motserve.files import disk
from motserve.pipeline.video_result import LinesFile
from motserve.pipeline.video_run import VideoRun

LATIN = os.fsdecode(b"caf\xe9")
"""A name in Latin-1, as old cameras and archives use it."""


@pytest.fixture
def plain(untrained: Sequence[str]) -> Sequence[str]:
    return [*untrained, "--set", "reid.policy=off"]


def put(clip: Path, name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(clip.read_bytes())
    return path


def pictures(folder: str, count: int = 3) -> Path:
    path = Path(folder)
    path.mkdir(parents=True)
    for number in range(count):
        data = cv2.imencode(".png", np.full((64, 96, 3), 10 * number, np.uint8))[1]  # OpenCV crashes on such names
        (path / f"{number:06}.png").write_bytes(data.tobytes())
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 kB, with a folder for results on it."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", str(place)], check=True)


ANY_ROOM = ("--set", "disk.min_free_bytes=0")


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_video_name_that_is_not_utf8_is_tracked(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    video = put(clip, f"{LATIN}.mp4")
    result = motserve("track", video, *plain, "--format", "mot", "--save-video")
    assert result.exit_code == 0, result.output
    assert r"caf\xe9.mp4" in result.stderr
    assert r"runs/caf\xe9/tracks.txt" in result.stderr
    folder = Path("runs") / LATIN
    assert files_in(folder) == ["annotated.mp4", "tracks.provenance.json", "tracks.txt"]
    assert list(json.loads((folder / "tracks.provenance.json").read_bytes())["data"]) == [r"caf\xe9.mp4"]
    assert motserve("track", video, *plain, "--output", f"out-{LATIN}").exit_code == 0
    assert json.loads(Path(f"out-{LATIN}/tracks.json").read_bytes())["video"]["name"] == r"caf\xe9.mp4"


def test_such_a_name_may_be_anywhere_on_the_command_line(motserve: Motserve, plain: Sequence[str]) -> None:
    Path(f"{LATIN}.yaml").write_text("detector: {confidence: 0.2}")
    folder = pictures(f"{LATIN}/{LATIN}")
    given = ["-c", f"{LATIN}.yaml", "--set", f"models_dir={LATIN}"]
    result = motserve("track", folder, *plain, *given)
    assert result.exit_code == 0, result.output
    document = json.loads((Path("runs") / LATIN / "tracks.json").read_bytes())
    assert document["provenance"]["config"]["models_dir"] == r"caf\xe9"


def test_weights_of_such_a_name_are_refused_where_their_library_cannot_open_them(
    motserve: Motserve, clip: Path, untrained_detector: Path
) -> None:
    weights = Path(f"{LATIN}.safetensors")
    weights.write_bytes(untrained_detector.read_bytes())
    result = motserve("track", clip, "--set", f"detector.weights=./{weights}")
    assert_error(result, 4, r"caf\xe9.safetensors: the library for these weights cannot open a path that is not UTF-8")


def test_tracks_of_such_a_name_can_be_scored_and_compared(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    put(clip, f"gt/{LATIN}.mp4")
    Path(f"gt/{LATIN}.txt").write_text("1,1,10,10,20,40,1,1,1\n2,1,10,10,20,40,1,1,1\n")
    assert motserve("track", f"gt/{LATIN}.mp4", *plain).exit_code == 0
    scored = motserve("evaluate", "mot", "--gt", "gt", "--results", "runs", "--json", "scores.json")
    assert scored.exit_code == 0, scored.output
    assert r"caf\xe9" in scored.stdout
    assert list(json.loads(Path("scores.json").read_bytes())["sequences"]) == [r"caf\xe9"]
    ran = motserve("evaluate", "mot", "--gt", "gt", "--run", "--results", "made", *plain)
    assert ran.exit_code == 0, ran.output
    assert files_in("made") == [f"{LATIN}.provenance.json", f"{LATIN}.txt", "scores.json"]
    compared = motserve("compare", "trackers", "--gt", "gt", "--peers", "none", "--output", LATIN, *plain)
    assert compared.exit_code == 0, compared.output
    assert r"caf\xe9" in (Path(LATIN) / "table.md").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["track", f"{LATIN}.mp4"],
        ["track", "none.mp4", "-c", f"{LATIN}.yaml"],
        ["track", "none.mp4", "-s", f"detector.weights=/{LATIN}.pt"],
        ["evaluate", "mot", "--gt", LATIN, "--results", "x"],
        ["evaluate", "reid", "--root", LATIN, "--protocol", "market1501"],
    ],
)
def test_such_a_name_is_shown_in_errors(motserve: Motserve, arguments: list[str]) -> None:
    result = motserve(*arguments)
    assert result.exit_code in (2, 3, 4)
    if LATIN in str(arguments[1:2]) + str(arguments[3:4]):
        assert_error(result, result.exit_code, r"caf\xe9")


def test_a_name_with_line_breaks_is_shown_on_one_line(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    result = motserve("track", put(clip, "two\nlines\x1b[31m.mp4"), *plain)
    assert result.exit_code == 0, result.output
    assert r"two\nlines\x1b[31m.mp4" in result.stderr
    assert "\x1b" not in result.stderr
    assert_error(motserve("track", "none\nat all.mp4"), 3, r"none")


# --- paths ------------------------------------------------------------------------------------------------------------


def test_folders_with_dots_do_not_share_an_output(motserve: Motserve, plain: Sequence[str]) -> None:
    for name, count in (("cam.v1", 3), ("cam.v2", 4)):
        assert motserve("track", pictures(name, count), *plain).exit_code == 0
    frames = {name: json.loads(Path(f"runs/{name}/tracks.json").read_bytes())["frames"] for name in os.listdir("runs")}  # noqa: PTH208
    assert {name: len(found) for name, found in frames.items()} == {"cam.v1": 3, "cam.v2": 4}


def test_two_videos_of_one_name_do_not_mix(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    assert motserve("track", put(clip, "a/clip.mp4"), *plain, "--save-video").exit_code == 0
    second = motserve("track", put(clip, "b/clip.mp4"), *plain, "--format", "mot")
    assert "runs/clip-2/tracks.txt" in second.stderr
    assert files_in("runs") == [
        "clip-2/tracks.provenance.json", "clip-2/tracks.txt", "clip/annotated.mp4", "clip/tracks.json"
    ]  # fmt: skip


def test_an_output_with_results_is_refused_or_replaced_as_a_whole(
    motserve: Motserve, clip: Path, plain: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert motserve("track", clip, *plain, "--output", "out", "--save-video").exit_code == 0
    Path("out/notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("motserve.pipeline.video_run.open_video", None)  # must not be called
        refused = motserve("track", clip, *plain, "--output", "out", "--format", "csv")
    assert_error(refused, 2, "out holds tracks.json and annotated.mp4 of an earlier run", "--overwrite")
    assert motserve("track", clip, *plain, "--output", "out", "--format", "csv", "--overwrite").exit_code == 0
    assert files_in("out") == ["notes.txt", "tracks.csv", "tracks.provenance.json"]


def test_a_result_is_not_replaced_by_its_own_tracks(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    put(clip, "out/annotated.mp4")
    result = motserve("track", "out/annotated.mp4", *plain, "--output", "out", "--overwrite")
    assert_error(result, 2, "out/annotated.mp4 is one of the results in out")
    assert files_in() == ["out/annotated.mp4"]


def test_tracks_are_kept_if_the_drawing_fails(
    motserve: Motserve, clip: Path, plain: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("motserve.pipeline.video_result.annotate_video", fail)
    result = motserve("track", clip, *plain, "--output", "out", "--save-video")
    assert result.exit_code == 1
    assert "tracks without video: out/tracks.json" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: out: No space left on device; free disk space and try again"
    assert files_in() == ["out/tracks.json"]


# --- disks ------------------------------------------------------------------------------------------------------------


def test_too_little_disk_space_is_reported_before_work_begins(
    motserve: Motserve, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 5_000_000)
    monkeypatch.setattr("motserve.pipeline.video_run.open_video", None)
    result = motserve("track", clip, "--output", "out")
    assert_error(result, 1, "out: 5.0 MB are free on its disk, but 33.6 MB are required", "disk.min_free_bytes")
    share = ("--set", "disk.annotated_share=10", "--set", f"disk.min_free_bytes={5_000_000 - clip.stat().st_size}")
    assert_error(motserve("track", clip, *share, "--save-video"), 1, "disk.annotated_share")
    for command in (
        ["evaluate", "mot", "--gt", "gt", "--run", "--results", "out"],
        ["compare", "trackers", "--gt", "gt"],
        ["benchmark", "reentry"],
        ["benchmark", "tracker", "--json", "out/rows.json"],
        ["tune", "tracker", "--gt", "gt"],
    ):
        assert_error(motserve(*command), 1, "disk.min_free_bytes")
    assert files_in() == []


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_files(
    motserve: Motserve, clip: Path, plain: Sequence[str], small_disk: Path
) -> None:
    assert_error(motserve("track", clip, *plain, "--output", small_disk / "out"), 1, "disk.min_free_bytes")
    result = motserve("track", clip, *plain, *ANY_ROOM, "--output", small_disk / "out")
    assert_error(result, 1, f"{small_disk}/out: No space left on device")
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_errors_without_a_file_name_have_no_traceback(
    motserve: Motserve, clip: Path, plain: Sequence[str], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("motserve.results.result_file.append_whole", fail)
    result = motserve("track", clip, *plain, "--output", "out")
    assert_error(result, 1, f"out: {os.strerror(error)}; free disk space")
    assert not Path("out").exists()


def test_scores_and_rows_on_a_full_disk_are_one_line(
    motserve: Motserve, clip: Path, plain: Sequence[str], small_disk: Path
) -> None:
    put(clip, "gt/clip.mp4")
    Path("gt/clip.txt").write_text("1,1,10,10,20,40,1,1,1\n")
    (small_disk / "ballast").write_bytes(bytes(12 << 10))
    ran = motserve("evaluate", "mot", "--gt", "gt", "--run", "--results", small_disk / "out", *plain, *ANY_ROOM)
    assert_error(ran, 1, str(small_disk), "No space left on device")
    rows = small_disk / "rows" / "rows.json"
    measured = motserve("benchmark", "identities", "--identities", "2", "--json", rows, *ANY_ROOM)
    assert measured.exit_code == 1
    assert "No space left on device" in measured.stderr.splitlines()[-1]
    assert not [name for name in files_in(small_disk) if name.endswith(".part")]


def test_pipes_and_devices_are_refused_by_name(motserve: Motserve, clip: Path) -> None:
    os.mkfifo("pipe.mp4")
    Path("broken.mp4").symlink_to("none.mp4")
    Path("circle.mp4").symlink_to("circle.mp4")
    assert_error(motserve("track", "pipe.mp4"), 3, "pipe.mp4 is a pipe or a device")
    assert_error(motserve("track", "/dev/zero"), 3, "/dev/zero is a pipe or a device")
    assert_error(motserve("track", "broken.mp4"), 3, "it is a link to none.mp4, which does not exist")
    assert_error(motserve("track", "circle.mp4"), 3, "it is a link to circle.mp4")
    assert motserve("track", "n" * 300).exit_code != 0
    assert files_in() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_run_leaves_no_files(
    motserve: Motserve, clip: Path, plain: Sequence[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def end(self: VideoRun, lines: LinesFile, *rest: Any) -> None:
        lines.path.write_text("work")
        os.kill(os.getpid(), number)

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(VideoRun, "run_to", end)
    try:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        assert motserve("track", str(clip), "--output", "out", *plain).exit_code == 128 + number
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert not Path("out").exists()

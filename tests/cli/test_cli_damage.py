"""Output of `motserve track` for a video that is damaged or cut off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_checks import Motserve, assert_error, document, files_in
from noise_videos import invalidate

from motserve.config import VideoConfig
from motserve.video import open_video


@pytest.fixture
def plain(untrained: Sequence[str]) -> Sequence[str]:
    return [*untrained, "--set", "reid.policy=off"]


def damaged(clip: Path, samples: Sequence[int]) -> Path:
    path = Path("damaged.mp4")
    path.write_bytes(clip.read_bytes())
    return invalidate(path, samples)


def test_damage_is_counted_and_tracking_continues(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    result = motserve("track", damaged(clip, [5]), *plain)
    assert result.exit_code == 0, result.output
    tracks = document("runs/damaged/tracks.json")
    assert (tracks["summary"]["status"], tracks["summary"]["frames_damaged"]) == ("done", 1)
    assert tracks["summary"]["frames"] == len(tracks["frames"]) == 11
    assert "1 more are damaged" in result.stderr


@pytest.mark.parametrize("format_", ["json", "mot"])
def test_with_too_much_damage_the_tracks_are_kept_and_marked(
    motserve: Motserve, clip: Path, plain: Sequence[str], format_: str
) -> None:
    result = motserve("track", damaged(clip, [5, 6, 7]), *plain, "--format", format_, "--save-video")
    assert result.exit_code == 3, result.output
    assert "error: damaged.mp4 is damaged: 3 of 12 frames cannot be decoded" in result.stderr
    assert "incomplete" in result.stderr
    with open_video("runs/damaged/annotated.mp4", VideoConfig()) as video:
        assert len(list(video.frames())) == 9
    if format_ == "json":
        summary = document("runs/damaged/tracks.json")["summary"]
        assert (summary["status"], summary["frames"], summary["frames_damaged"]) == ("incomplete", 9, 3)
        assert "damaged.mp4 is damaged" in summary["error"]
    else:
        assert "is damaged" in document("runs/damaged/tracks.provenance.json")["incomplete"]


def test_the_tracks_of_a_video_that_is_cut_off_are_kept(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    data = clip.read_bytes()
    Path("half.mp4").write_bytes(data[: len(data) * 3 // 4])
    result = motserve("track", "half.mp4", *plain, "--save-video")
    assert result.exit_code == 3, result.output
    assert "half.mp4 is cut off: it declares 12 frames" in result.stderr
    summary = document("runs/half/tracks.json")["summary"]
    assert summary["status"] == "incomplete"
    assert 1 <= summary["frames"] < 12
    assert files_in("runs/half") == ["annotated.mp4", "tracks.json"]


def test_a_video_without_frames_leaves_no_files(motserve: Motserve, clip: Path, plain: Sequence[str]) -> None:
    result = motserve("track", damaged(clip, range(12)), *plain)
    assert_error(result, 3, "damaged.mp4 has no frame that can be decoded")
    assert not Path("runs").exists()

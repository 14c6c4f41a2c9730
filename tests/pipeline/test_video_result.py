"""`motserve.track(…).run()`: counts, tables, files, the annotated video, and refused targets."""

from __future__ import annotations

import csv
import errno
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_checks import files_in

import motserve
from motserve.config import VideoConfig
from motserve.errors import DiskFull, InvalidConfig
from motserve.pipeline.video_result import VideoResult
from motserve.results import SUFFIXES, read_tracks
from motserve.results.table import COLUMNS
from motserve.video import open_video


@pytest.fixture
def video(untrained: Sequence[str], clip: Path, tmp_path: Path) -> Path:
    path = tmp_path / "people.mp4"
    path.write_bytes(clip.read_bytes())
    return path


@pytest.fixture
def result(untrained: Sequence[str], video: Path) -> VideoResult:
    return motserve.track(video, overrides=list(untrained[1::2])).run()


def test_a_summary_counts(result: VideoResult) -> None:
    frames = list(result.frames)
    summary = result.summary
    assert (summary["status"], summary["frames"], summary["frames_damaged"]) == ("done", len(frames), 0)
    assert summary["identities"] == len({identity for frame in frames for identity in frame.identities.tolist()})
    assert summary["fps"] > 0
    assert result.error is None
    assert "people.mp4: done, 12 frames" in repr(result)


def test_files_have_the_format_of_their_suffix_and_the_same_tracks(result: VideoResult, tmp_path: Path) -> None:
    tables = [read_tracks(result.save(tmp_path / f"tracks{suffix}")) for suffix in SUFFIXES.values()]
    assert {len(table) for table in tables} == {sum(len(frame.boxes) for frame in result.frames)}
    document = json.loads((tmp_path / "tracks.json").read_bytes())
    assert document["video"]["name"] == "people.mp4"
    assert document["summary"] == result.summary
    assert document["provenance"]["data"]["people.mp4"]["files"] == 1
    assert files_in(tmp_path) == ["people.mp4", *sorted(f"tracks{suffix}" for suffix in SUFFIXES.values())]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tracks.xml", r"tracks.xml: tracks are written to .csv, .json, .ndjson, .txt"),
        ("tracks", "tracks are written to"),
        ("none/tracks.csv", "there is no folder"),
        (".", "is a folder; name a file in it"),
        ("", "a path cannot be empty"),
    ],
)
def test_other_files_are_refused(
    result: VideoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidConfig, match=said):
        result.save(name)
    with pytest.raises(InvalidConfig):
        result.annotate(name)
    assert files_in(tmp_path) == ["people.mp4"]


def test_the_video_is_not_replaced_by_its_results(result: VideoResult, video: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(video)
    before = video.read_bytes()
    for name in ("people.mp4", "link.mp4"):
        with pytest.raises(InvalidConfig, match="is the video itself"):
            result.annotate(tmp_path / name)
    assert video.read_bytes() == before


def test_a_file_is_whole_or_not_there(result: VideoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "tracks.csv").write_text("of yesterday")
    monkeypatch.setattr("motserve.pipeline.video_result.export", fail)
    monkeypatch.setattr("motserve.pipeline.video_result.annotate_video", fail)
    with pytest.raises(DiskFull, match=r"tracks\.csv: No space left on device; free disk space"):
        result.save(tmp_path / "tracks.csv")
    with pytest.raises(DiskFull, match=r"annotated\.mp4: No space left on device"):
        result.annotate(tmp_path / "annotated.mp4")
    assert (tmp_path / "tracks.csv").read_text() == "of yesterday"
    assert files_in(tmp_path) == ["people.mp4", "tracks.csv"]


def test_the_annotated_video_has_every_frame(result: VideoResult, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = result.annotate(str(tmp_path / "annotated.mp4"), progress=lambda done, total: seen.append((done, total)))
    with open_video(path, VideoConfig()) as annotated:
        assert len(list(annotated.frames())) == 12
    assert seen[-1] == (12, 12)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_has_the_rows_of_the_csv_file(result: VideoResult, tmp_path: Path, library: Any) -> None:
    pytest.importorskip(library)
    frame = result.to_dataframe(library)
    with result.save(tmp_path / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(frame.columns) == list(rows[0])
    assert len(frame) == len(rows)
    for name, kind in (("frame", int), ("identity", int), ("x1", float), ("confidence", float), ("class", str)):
        assert frame[name].to_list() == [kind(row[name]) for row in rows]
    linked = [row["reidentified_from"] for row in rows]
    assert [value for value in frame["reidentified_from"].to_list() if isinstance(value, int)] == [
        int(value) for value in linked if value
    ]


def test_the_installed_library_is_taken_and_a_missing_one_named(
    result: VideoResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert type(result.to_dataframe()).__module__.startswith("polars")
    with pytest.raises(InvalidConfig, match=r"to_dataframe needs pandas .*pip install pandas"):
        result.to_dataframe("pandas")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(InvalidConfig, match="to_dataframe needs pandas or Polars: pip install pandas"):
        result.to_dataframe()
    with pytest.raises(InvalidConfig, match="library must be pandas or polars, not 'dask'"):
        result.to_dataframe("dask")  # type: ignore[arg-type]


def test_an_empty_video_gives_an_empty_data_frame(untrained: Sequence[str], video: Path) -> None:
    pytest.importorskip("pandas")
    empty = motserve.track(video, overrides=[*untrained[1::2], "detector.confidence=1"]).run()
    assert empty.summary["identities"] == 0
    assert len(empty.to_dataframe()) == 0
    assert list(empty.to_dataframe().columns) == list(COLUMNS)


def test_a_result_shows_itself_as_a_table(result: VideoResult) -> None:
    page = result._repr_html_()
    assert page.startswith("<table>")
    assert "people.mp4, 192x112, h264" in page


def test_a_disk_without_room_for_the_tracks_is_one_error(
    untrained: Sequence[str], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("motserve.results.result_file.append_whole", fail)
    with pytest.raises(DiskFull, match="No space left on device; free disk space and try again"):
        motserve.track(video, overrides=list(untrained[1::2])).run()


def test_no_files_are_left(
    untrained: Sequence[str], video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    result = motserve.track(video, overrides=list(untrained[1::2])).run()
    assert len(list(result.frames)) == 12
    assert len(list(place.iterdir())) == 1
    del result
    gc.collect()
    assert list(place.iterdir()) == []


def test_progress_is_shown_where_a_terminal_is_or_on_request(
    untrained: Sequence[str], video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = motserve.track(video, overrides=list(untrained[1::2]))
    run.run()
    run.run(progress=False)
    assert capsys.readouterr().err == ""
    run.run(progress=True)
    assert "tracking people.mp4" in capsys.readouterr().err
    seen: list[tuple[int, int | None]] = []
    run.run(progress=lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((0, 12), (12, 12))

from __future__ import annotations

import os
from pathlib import Path

import pytest

from motserve.errors import Conflict, InvalidConfig, MotserveError
from motserve.files.atomic import write_json
from motserve.lab.evaluation.sequences import find_results
from motserve.models.provenance import write_stamp
from motserve.results.run_folder import RUN_FILES, open_run_folder, run_name

RUNS = Path("runs")


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def there() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def run(name: str, *files: str, output: Path | None = None, overwrite: bool = False) -> Path:
    """What a run does with its folder, its name the content of its files."""
    with open_run_folder(output, RUNS, name, overwrite) as folder:
        for file in files:
            (folder.staging / file).write_bytes(os.fsencode(name))
        (folder.staging / "lines.ndjson").write_text("work")
        folder.publish()
    return folder.path


def fail(name: str, output: Path | None = None, overwrite: bool = False) -> None:
    with pytest.raises(FileNotFoundError), open_run_folder(output, RUNS, name, overwrite) as folder:
        (folder.staging / "tracks.json").rename(folder.staging / "none" / "tracks.json")


@pytest.mark.parametrize(
    ("video", "name"),
    [
        ("a/clip.mp4", "clip"),
        ("clip.MOV", "clip"),
        ("clip.2024.mkv", "clip.2024"),
        ("clip.2024", "clip.2024"),
        ("cam.v1/", "cam.v1"),
        ("folder.mp4/", "folder.mp4"),
        (".mp4", ".mp4"),
        ("sub/..", "TOP"),
        (".", "TOP"),
        ("/", "root"),
    ],
)
def test_a_run_is_named_after_its_video(tmp_path: Path, video: str, name: str) -> None:
    for folder in ("cam.v1", "folder.mp4", "sub"):
        Path(folder).mkdir()
    assert run_name(Path(video)) == (tmp_path.name if name == "TOP" else name)


def test_a_link_has_its_own_name() -> None:
    Path("real.mp4").touch()
    Path("latest.mp4").symlink_to("real.mp4")
    assert run_name(Path("latest.mp4")) == "latest"


def test_each_run_has_a_folder_of_its_own() -> None:
    assert [run("clip", "tracks.json"), run("clip", "tracks.txt"), run("b", "annotated.mp4")] == [
        RUNS / "clip", RUNS / "clip-2", RUNS / "b"
    ]  # fmt: skip
    assert there() == [
        "runs", "runs/b", "runs/b/annotated.mp4", "runs/clip", "runs/clip-2", "runs/clip-2/tracks.txt",
        "runs/clip/tracks.json",
    ]  # fmt: skip


def test_two_runs_at_once_get_two_folders() -> None:
    with open_run_folder(None, RUNS, "clip", False) as first, open_run_folder(None, RUNS, "clip", False) as second:
        assert (first.path, second.path) == (RUNS / "clip", RUNS / "clip-2")


def test_a_failed_run_leaves_no_files() -> None:
    fail("clip")
    fail("clip", Path("a/b/c"))
    assert there() == []
    Path("a").mkdir()
    Path("a/mine").touch()
    fail("clip", Path("a/b"))
    assert there() == ["a", "a/mine"]


def test_files_of_an_earlier_run_are_not_replaced_without_overwrite() -> None:
    out = run("first", "tracks.json", "annotated.mp4", output=Path("out"))
    with pytest.raises(InvalidConfig, match=r"out holds tracks\.json and annotated\.mp4 of an earlier run"):
        run("second", "tracks.txt", output=out)
    assert (out / "tracks.json").read_text() == "first"


def test_overwriting_replaces_a_whole_run_and_no_other_files() -> None:
    out = run("first", *RUN_FILES, output=Path("out"))
    (out / "notes.txt").write_text("mine")
    (out / "tracks.bak").write_text("mine")
    fail("second", out, overwrite=True)
    assert all((out / name).read_text() == "first" for name in RUN_FILES)
    run("third", "tracks.txt", "tracks.provenance.json", output=out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "notes.txt", "tracks.bak", "tracks.provenance.json", "tracks.txt"
    ]  # fmt: skip
    assert (out / "tracks.txt").read_text() == "third"


def test_a_folder_may_contain_other_files() -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    run("clip", "tracks.json", output=Path("out"))
    assert there() == ["out", "out/notes.txt", "out/tracks.json"]


def test_one_run_at_a_time_writes_to_a_folder() -> None:
    with open_run_folder(Path("out"), RUNS, "a", False) as folder:
        with pytest.raises(Conflict, match="another run is writing to out"):
            run("b", "tracks.json", output=Path("out"), overwrite=True)
        assert folder.staging.is_dir()
    assert there() == []


def test_the_next_run_removes_what_a_killed_run_left() -> None:
    Path("out/.run-01234abc").mkdir(parents=True)
    Path("out/.run-01234abc/tracks.json").touch()
    Path("out/.run-notes").mkdir()
    run("clip", "tracks.json", output=Path("out"))
    assert there() == ["out", "out/.run-notes", "out/tracks.json"]


@pytest.mark.parametrize(("output", "message"), [("file", "cannot be made"), ("file/out", "cannot be made")])
def test_a_file_in_the_way(output: str, message: str) -> None:
    Path("file").touch()
    with pytest.raises(InvalidConfig, match=message):
        run("clip", "tracks.json", output=Path(output))
    assert there() == ["file"]


def test_a_broken_link_in_the_way() -> None:
    Path("out").symlink_to("none")
    with pytest.raises(InvalidConfig, match="cannot be made"):
        run("clip", "tracks.json", output=Path("out"))


def test_non_files_are_not_removed() -> None:
    Path("out/tracks.json").mkdir(parents=True)
    with pytest.raises(InvalidConfig, match=r"out/tracks\.json is in the way"):
        run("clip", "tracks.json", output=Path("out"), overwrite=True)
    Path("out/tracks.json").rmdir()
    os.mkfifo("out/annotated.mp4")
    with pytest.raises(InvalidConfig, match=r"out/annotated\.mp4 is in the way"):
        run("clip", "tracks.json", output=Path("out"), overwrite=True)


def test_a_link_is_replaced_and_its_target_is_not() -> None:
    Path("out").mkdir()
    Path("real.json").write_text("mine")
    Path("out/tracks.json").symlink_to(Path("real.json").absolute())
    run("clip", "tracks.json", output=Path("out"), overwrite=True)
    assert Path("real.json").read_text() == "mine"
    assert Path("out/tracks.json").read_text() == "clip"


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127 + "x", os.fsdecode(b"\xe9" * 255)])
def test_the_longest_names_have_room_for_a_number(name: str) -> None:
    folders = [run(name, "tracks.json") for _ in range(3)]
    assert [len(os.fsencode(folder.name)) <= 255 for folder in folders] == [True] * 3
    assert folders[2].name.endswith("-3")


# --- results of runs, found again for scoring -------------------------------------------------------------------------


def tracked(folder: str, video: str, suffix: str = ".json") -> Path:
    """Tracks as `motserve track` leaves them, with their stamp."""
    path = Path(folder) / f"tracks{suffix}"
    provenance = {"data": {video: {"files": 1}}}
    if suffix == ".json":
        write_json(path, {"frames": [], "provenance": provenance})
    else:
        path.parent.mkdir(parents=True)
        path.write_text("1,1,1,1,2,2,1,-1,-1,-1\n")
        write_stamp(path, provenance)
    return path


def refusal(*names: str) -> str:
    with pytest.raises(MotserveError) as caught:
        find_results(RUNS, names)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_two_runs_of_a_sequence_are_reported_and_none_is_chosen(suffix: str) -> None:
    tracked("runs/A", "A.mp4", suffix)
    tracked("runs/A-2", "A.mp4", suffix)
    assert f"there are 2 files of A, such as runs/A/tracks{suffix} and runs/A-2/tracks{suffix}" in refusal("A")
    tracked("runs/A-3", "A", suffix)
    assert "there are 3 files of A" in refusal("A")


def test_a_sequence_with_a_number_at_the_end_is_not_a_second_run() -> None:
    files = {name: tracked(f"runs/{name}", f"{name}.mp4") for name in ("A", "A-2", "MOT17-09")}
    assert find_results(RUNS, list(files)) == files
    assert find_results(RUNS, ["A"]) == {"A": files["A"]}


def test_a_second_run_is_not_mistaken_for_a_sequence_of_its_name() -> None:
    tracked("runs/A-2", "A.mp4")
    assert "has no file of A-2" in refusal("A-2")
    assert find_results(RUNS, ["A"]) == {"A": Path("runs/A-2/tracks.json")}


def test_a_folder_that_was_renamed_to_its_sequence_is_taken() -> None:
    path = tracked("runs/MOT17-09", "clip.mp4")
    assert find_results(RUNS, ["MOT17-09"]) == {"MOT17-09": path}


def test_what_a_killed_run_has_left_goes_with_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / "out" / ".run-0123abcd"
    left.mkdir(parents=True)
    (left / "lines.ndjson").write_text("work")
    run("new", "tracks.json", output=Path("out"))
    assert there() == ["out", "out/tracks.json"]

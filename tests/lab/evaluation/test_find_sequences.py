from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from motserve.errors import InvalidData, NotFound
from motserve.lab.evaluation.sequences import TruthFile, find_results, find_truth
from motserve.results import SUFFIXES

ROW = "1,1,1,1,2,2,1,1,1\n"


def put(path: Path, text: str = ROW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def sequence(folder: Path, ini: str | None = "[Sequence]\nseqLength=20\nframeRate=12.5\n") -> Path:
    """Write a sequence folder in the layout of the MOTChallenge."""
    if ini is not None:
        put(folder / "seqinfo.ini", ini)
    put(folder / "gt" / "gt.txt")
    return folder


def refusal(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises((InvalidData, NotFound)) as caught:
        call(*arguments)
    return str(caught.value)


def test_hidden_files_of_operating_systems_are_not_ground_truth(tmp_path: Path) -> None:
    sequence(tmp_path / "A")
    sequence(tmp_path / "__MACOSX")
    assert list(find_truth(tmp_path)) == ["A"]
    put(tmp_path / "texts" / "B.txt")
    put(tmp_path / "texts" / "._B.txt")
    assert list(find_truth(tmp_path / "texts")) == ["B"]


def test_a_folder_of_sequences(tmp_path: Path) -> None:
    for name in ("B", "A"):
        sequence(tmp_path / name)
    (tmp_path / "notes").mkdir()
    found = find_truth(tmp_path)
    assert list(found) == ["A", "B"]
    assert found["A"] == TruthFile("A", tmp_path / "A/gt/gt.txt", 20, 12.5)
    assert found["A"].folder == tmp_path / "A"


def test_a_sequence_with_the_reserved_name_is_refused(tmp_path: Path) -> None:
    sequence(tmp_path / "combined")
    assert "combined/gt/gt.txt: combined is reserved" in refusal(find_truth, tmp_path)


@pytest.mark.parametrize("place", ["", "A", "A/gt", "A/gt/gt.txt"])
def test_one_sequence_is_found_by_each_of_its_paths(tmp_path: Path, place: str) -> None:
    sequence(tmp_path / "A")
    (truth,) = find_truth(tmp_path / place).values()
    assert (truth.name, truth.frames, truth.folder) == ("A", 20, tmp_path / "A")


@pytest.mark.parametrize(
    ("inside", "path"),
    [("", "A"), ("", "./A/"), ("A", "."), ("A", ""), ("A", "gt"), ("A", "gt/gt.txt"), ("A/gt", "gt.txt"),
     ("A/gt", ".."), ("A/gt", "."), ("A/img1", ".."), ("A/img1", "../gt/gt.txt"), ("B", "../A"), ("A/gt", "../../A")],
)  # fmt: skip
def test_relative_paths_find_the_name_of_the_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, path: str
) -> None:
    sequence(tmp_path / "A")
    (tmp_path / "A/img1").mkdir()
    (tmp_path / "B").mkdir()
    monkeypatch.chdir(tmp_path / inside)
    (truth,) = find_truth(Path(path)).values()
    assert (truth.name, truth.frames) == ("A", 20)
    assert truth.folder is not None
    assert truth.folder.resolve() == tmp_path / "A"


def test_files_named_after_their_sequences(tmp_path: Path) -> None:
    for name in ("B", "A.1"):
        put(tmp_path / f"{name}.txt")
    (tmp_path / "A.txt").mkdir()
    assert find_truth(tmp_path) == {n: TruthFile(n, tmp_path / f"{n}.txt", None, None) for n in ("A.1", "B")}
    assert list(find_truth(tmp_path / "A.1.txt")) == ["A.1"]
    assert find_truth(tmp_path)["B"].folder is None


def test_the_folders_of_a_split_are_searched(tmp_path: Path) -> None:
    for name in ("train/A", "train/B", "test/C"):
        sequence(tmp_path / name)
    assert list(find_truth(tmp_path)) == ["A", "B", "C"]
    assert list(find_truth(tmp_path / "train")) == ["A", "B"]


@pytest.mark.parametrize("name", ["S[1]", "[bold]", "Straße 東京 🙂", "with space", "a.b", "[/]", "*"])
def test_names_of_every_kind(tmp_path: Path, name: str) -> None:
    if "/" in name:
        name = name.replace("/", ":")
    sequence(tmp_path / "gt[x]" / name)
    put(tmp_path / "results[y]" / f"{name}.txt")
    assert list(find_truth(tmp_path / "gt[x]")) == [name]
    assert find_results(tmp_path / "results[y]", [name]) == {name: tmp_path / "results[y]" / f"{name}.txt"}


def test_links_give_their_own_names_to_sequences(tmp_path: Path) -> None:
    sequence(tmp_path / "store" / "0817")
    put(tmp_path / "annotations" / "77.txt")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/A").symlink_to(tmp_path / "store/0817")
    put(tmp_path / "gt/B/gt/other.txt")
    (tmp_path / "gt/B/gt/gt.txt").symlink_to(tmp_path / "annotations/77.txt")
    (tmp_path / "linked").symlink_to("gt")
    for place in ("gt", "linked"):
        found = find_truth(tmp_path / place)
        assert list(found) == ["A", "B"]
        assert (found["A"].frames, found["B"].frames) == (20, None)
    put(tmp_path / "results/A.txt")
    (tmp_path / "here").symlink_to("results")
    assert find_results(tmp_path / "here", ["A"]) == {"A": tmp_path / "here/A.txt"}


def test_sequences_are_selected_by_name(tmp_path: Path) -> None:
    for name in ("A", "B", "C"):
        sequence(tmp_path / name)
    assert list(find_truth(tmp_path, ["C", "A", "C"])) == ["A", "C"]
    assert refusal(find_truth, tmp_path, ["A", "Q"]) == f"no ground truth in {tmp_path} of Q; available: A, B, C"


def test_the_content_of_a_wrong_folder_is_named(tmp_path: Path) -> None:
    assert f"no ground truth at {tmp_path}/none" in refusal(find_truth, tmp_path / "none")
    put(tmp_path / "run/video.mp4")
    (tmp_path / "run/img1").mkdir()
    assert refusal(find_truth, tmp_path / "run") == (
        f"{tmp_path}/run holds no ground truth: searched gt/gt.txt, <sequence>/gt/gt.txt and <sequence>.txt, found "
        "img1/, video.mp4"
    )
    (tmp_path / "empty").mkdir()
    assert refusal(find_truth, tmp_path / "empty").endswith("found nothing")
    for number in range(12):
        put(tmp_path / "many" / f"{number:02}.mp4")
    assert refusal(find_truth, tmp_path / "many").endswith("07.mp4 and 4 more")
    (tmp_path / "false/A/gt/gt.txt").mkdir(parents=True)
    assert "holds no ground truth" in refusal(find_truth, tmp_path / "false")


def test_duplicate_ground_truth_is_refused(tmp_path: Path) -> None:
    sequence(tmp_path / "split/train/A")
    sequence(tmp_path / "split/test/A")
    assert refusal(find_truth, tmp_path / "split") == (
        f"there are two ground truths of A: {tmp_path}/split/test/A/gt/gt.txt and {tmp_path}/split/train/A/gt/gt.txt"
    )
    sequence(tmp_path / "mixed/A")
    put(tmp_path / "mixed/A.txt")
    assert "there are two ground truths of A" in refusal(find_truth, tmp_path / "mixed")


@pytest.mark.parametrize(
    ("ini", "frames", "rate"),
    [
        (None, None, None),
        ("", None, None),
        ("[Sequence]\n", None, None),
        ("[Sequence]\nseqLength = 7\n", 7, None),
        ("[Sequence]\nframeRate=29.97\nname=50%%\n", None, 29.97),
        ("\ufeff[Sequence]\r\nseqLength=7\r\nframeRate=30\r\nimDir=img1\r\n", 7, 30),
    ],
)
def test_length_and_rate_come_from_seqinfo(
    tmp_path: Path, ini: str | None, frames: int | None, rate: float | None
) -> None:
    found = find_truth(sequence(tmp_path / "A", ini))["A"]
    assert (found.frames, found.rate_hz) == (frames, rate)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [("640", "480", (640, 480)), ("0", "0", None), ("640.0", "480", None), ("", "480", None), (None, "480", None)],
)
def test_an_invalid_size_is_unknown(
    tmp_path: Path, width: str | None, height: str, size: tuple[int, int] | None
) -> None:
    ini = "[Sequence]\n" + (f"imWidth={width}\n" if width is not None else "") + f"imHeight={height}\n"
    assert find_truth(sequence(tmp_path / "A", ini))["A"].size == size


@pytest.mark.parametrize(
    "ini",
    ["nonsense", "[Sequence]\nseqLength=ten\n", "[Sequence]\nseqLength=0\n", "[Sequence]\nseqLength=-5\n",
     "[Sequence]\nseqLength=1000001\n", "[Sequence]\nseqLength=7.5\n", "[Sequence]\nframeRate=nan\n",
     "[Sequence]\nframeRate=0\n", "[Sequence]\nframeRate=inf\n", "[Sequence]\nseqLength=%20\n",
     "[Sequence]\nseqLength=1\nseqLength=2\n", "[Sequence]\nseqLength=20 ; frames\n"],
)  # fmt: skip
def test_a_broken_seqinfo_is_named_in_one_line(tmp_path: Path, ini: str) -> None:
    complaint = refusal(find_truth, sequence(tmp_path / "A", ini))
    assert complaint.startswith(f"{tmp_path}/A/seqinfo.ini")
    assert "\n" not in complaint


def test_a_seqinfo_that_is_not_text_is_refused(tmp_path: Path) -> None:
    folder = sequence(tmp_path / "A")
    (folder / "seqinfo.ini").write_bytes(b"\xff\xfe\x00")
    assert refusal(find_truth, folder).startswith(f"{folder}/seqinfo.ini is not a valid seqinfo.ini")


@pytest.mark.parametrize("suffix", SUFFIXES.values())
@pytest.mark.parametrize("place", ["{name}", "data/{name}", "{name}/tracks"])
def test_results_in_every_format_and_place(tmp_path: Path, suffix: str, place: str) -> None:
    files = {name: put(tmp_path / f"{place.format(name=name)}{suffix}") for name in ("A", "B[1]")}
    assert find_results(tmp_path, list(files)) == files


def test_results_of_a_single_sequence_need_no_name(tmp_path: Path) -> None:
    tracks = put(tmp_path / "run/tracks.json")
    assert find_results(tmp_path / "run", ["A"]) == {"A": tracks}
    assert find_results(tracks, ["A"]) == {"A": tracks}
    assert "has no file of A, B" in refusal(find_results, tmp_path / "run", ["A", "B"])
    assert refusal(find_results, tracks, ["A", "B"]) == (
        f"{tracks} is one file, the ground truth has 2 sequences: A, B"
    )


def test_a_sequence_may_have_the_name_of_a_result(tmp_path: Path) -> None:
    tracks = put(tmp_path / "tracks.txt")
    assert find_results(tmp_path, ["tracks"]) == {"tracks": tracks}


def test_results_of_other_sequences_are_ignored(tmp_path: Path) -> None:
    put(tmp_path / "A.csv")
    put(tmp_path / "B.txt", "not read")
    put(tmp_path / "notes.md")
    assert find_results(tmp_path, ["A"]) == {"A": tmp_path / "A.csv"}


def test_two_results_of_a_sequence_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "A.txt")
    put(tmp_path / "A.json")
    assert refusal(find_results, tmp_path, ["A"]) == (
        f"there are 2 files of A, such as {tmp_path}/A.json and {tmp_path}/A.txt; remove all but one, or give the "
        "folder of one run"
    )


def test_missing_results_are_named_with_the_content_of_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "MOT17-02-FRCNN.txt")
    (tmp_path / "MOT17-02.txt").mkdir()
    complaint = refusal(find_results, tmp_path, ["MOT17-02", "MOT17-04"])
    assert complaint.startswith(f"{tmp_path} has no file of MOT17-02, MOT17-04: searched MOT17-02{{.json,")
    assert "found MOT17-02-FRCNN.txt, MOT17-02.txt/; --sequences selects" in complaint
    assert str(tmp_path / "none") in refusal(find_results, tmp_path / "none", ["A"])


def test_real_ground_truth_is_found(data_dir: Path) -> None:
    found = find_truth(data_dir / "mot_gt")
    assert len(found) == 15
    assert all(truth.frames and truth.rate_hz for truth in found.values())
    assert list(find_truth(data_dir / "mot")) == ["MOT17-09", "PETS09-S2L1", "TUD-Campus"]

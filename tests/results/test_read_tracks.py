from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motserve.errors import InvalidData, NotFound
from motserve.results import FORMATS, SUFFIXES, Format, MotTable, encode_frame, export, read_mot, read_tracks, to_table
from motserve.types import TrackedFrame, Tracks

NAMES = {0: "person", 2: "Pedestrian"}
HEADER = "frame,timestamp,identity,track,class,confidence,x1,y1,x2,y2,state,reidentified_from,distance,gap_s\n"
Record = dict[str, Any]


def made_up(counts: list[int], seed: int = 0) -> list[TrackedFrame]:
    """Frames with so many tracks each; boxes lie between the hundredths that files hold."""
    random = np.random.default_rng(seed)
    frames = []
    for index, count in enumerate(counts):
        boxes = random.uniform(-90, 1900, (count, 4)).astype(np.float32)
        boxes[:, 2:] = boxes[:, :2] + random.uniform(0, 300, (count, 2)).astype(np.float32)
        scores = random.uniform(0, 1, count).astype(np.float32)
        tracks = Tracks(np.arange(count), boxes, scores, random.choice([0, 2], count), np.arange(count))
        frames.append(TrackedFrame(index, index / 7, tracks, random.permutation(90)[:count] + 1))
    return frames


FRAMES = made_up([3, 0, 5, 1, 0])


def file_of(folder: Path, frames: list[TrackedFrame], format_: Format, name: str = "tracks") -> Path:
    path = folder / f"{name}{SUFFIXES[format_]}"
    path.write_bytes(b"".join(export((encode_frame(frame, NAMES) for frame in frames), format_)))
    return path


def records(count: int) -> list[Record]:
    """The frames of a document, each with two people."""
    return [
        {
            "frame": frame,
            "timestamp": frame / 10,
            "tracks": [
                {"id": i, "track": i, "box": [10.0 * i, 5.0, 10.0 * i + 8, 25.0], "confidence": 0.5, "class": "person"}
                for i in (1, 2)
            ],
        }
        for frame in range(count)
    ]


def as_json(frames: list[Record]) -> str:
    return b"".join(export((json.dumps(frame).encode() for frame in frames), "json")).decode()


def as_ndjson(frames: list[Record]) -> str:
    return "".join(json.dumps(frame) + "\n" for frame in frames)


def as_csv(frames: list[Record]) -> str:
    return b"".join(export((json.dumps(frame).encode() for frame in frames), "csv")).decode()


def as_mot(frames: list[Record]) -> str:
    return b"".join(export((json.dumps(frame).encode() for frame in frames), "mot")).decode()


WRITERS: dict[str, Callable[[list[Record]], str]] = {
    ".json": as_json, ".ndjson": as_ndjson, ".csv": as_csv, ".txt": as_mot,
}  # fmt: skip
NAMING_FRAMES = {suffix: WRITERS[suffix] for suffix in (".json", ".ndjson")}


def write(folder: Path, suffix: str, text: str | bytes) -> Path:
    path = folder / f"tracks{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidData) as caught:
            read_tracks(path)
    return str(caught.value)


def assert_same_rows(a: MotTable, b: MotTable) -> None:
    for column in ("frames", "ids", "ltwh", "scores", "classes", "visibility"):
        ours, theirs = getattr(a, column), getattr(b, column)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, column)
    assert a.columns == b.columns


@pytest.mark.parametrize("seed", range(5))
def test_every_format_gives_the_same_table_as_the_tracks_in_memory(tmp_path: Path, seed: int) -> None:
    frames = made_up([4, 0, 7, 1, 30, 0, 2], seed)
    in_memory = to_table(frames, "tracks", NAMES)
    for format_ in FORMATS:
        assert_same_rows(read_tracks(file_of(tmp_path, frames, format_)), in_memory)
    assert len(in_memory) == 44
    assert in_memory.frame_count == 7


def test_only_formats_with_every_frame_have_a_frame_count(tmp_path: Path) -> None:
    counts = {format_: read_tracks(file_of(tmp_path, FRAMES, format_)).frame_count for format_ in FORMATS}
    assert counts == {"json": 5, "ndjson": 5, "mot": None, "csv": None}


def test_a_table_has_the_line_of_each_row(tmp_path: Path) -> None:
    lines = {format_: read_tracks(file_of(tmp_path, FRAMES, format_)).lines.tolist() for format_ in FORMATS}
    assert lines["ndjson"] == [1] * 3 + [3] * 5 + [4]
    assert lines["json"] == [2] * 3 + [4] * 5 + [5]
    assert lines["csv"] == list(range(2, 11))
    assert lines["mot"] == list(range(1, 10))
    assert to_table(FRAMES, "in memory", NAMES).lines.tolist() == lines["ndjson"]


def test_a_table_has_the_first_frame_number_and_the_last_line(tmp_path: Path) -> None:
    tables = {format_: read_tracks(file_of(tmp_path, FRAMES, format_)) for format_ in FORMATS}
    assert {name: table.first_frame for name, table in tables.items()} == {"json": 0, "ndjson": 0, "csv": 0, "mot": 1}
    assert {name: table.last_line for name, table in tables.items()} == {"json": 6, "ndjson": 5, "csv": 0, "mot": 0}
    assert all(len(tables[name]) == 9 for name in FORMATS)


def test_rows_of_a_text_keep_their_lines_when_they_are_sorted_by_frame(tmp_path: Path) -> None:
    table = read_tracks(write(tmp_path, ".txt", "\n3,1,1,1,2,2,1\n  \n1,2,1,1,2,2,1\n"))
    assert (table.frames.tolist(), table.lines.tolist(), table.columns) == ([0, 2], [4, 2], 7)


def test_files_without_tracks_give_an_empty_table(tmp_path: Path) -> None:
    for format_ in FORMATS:
        table = read_tracks(file_of(tmp_path, [], format_))
        assert len(table) == 0
        assert table.boxes.shape == (0, 4)
    assert len(to_table([], "nothing", NAMES)) == 0
    assert read_tracks(write(tmp_path, ".ndjson", "")).frame_count == 0


DISGUISES: dict[str, Callable[[str], bytes]] = {
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "carriage returns": lambda text: text.replace("\n", "\r\n").encode(),
    "blank lines at the end": lambda text: f"{text}\n \n\t\n".encode(),
    "blank lines between": lambda text: text.replace("\n", "\n\n").encode(),
    "byte order mark, carriage returns and blank lines": lambda text: f"{text}\n".replace("\n", "\r\n").encode(
        "utf-8-sig"
    ),
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_what_editors_do_to_files_changes_nothing(tmp_path: Path, suffix: str, disguise: str) -> None:
    text = WRITERS[suffix](records(4))
    expected = read_tracks(write(tmp_path, suffix, text))
    assert_same_rows(read_tracks(write(tmp_path, suffix, DISGUISES[disguise](text))), expected)


def test_spaces_after_commas_and_capital_suffixes_are_read(tmp_path: Path) -> None:
    expected = read_tracks(write(tmp_path, ".txt", as_mot(records(3))))
    spaced = tmp_path / "SPACED.TXT"
    spaced.write_text(as_mot(records(3)).replace(",", " , "))
    assert_same_rows(read_tracks(spaced), expected)
    capital = tmp_path / "tracks.JSON"
    capital.write_text(as_json(records(3)))
    assert_same_rows(read_tracks(capital), expected)


LAYOUTS: dict[str, Callable[[Any], str]] = {
    "as motserve writes it": lambda document: as_json(document["frames"]),
    "indented": lambda document: json.dumps(document, indent=2),
    "indented, with carriage returns": lambda document: json.dumps(document, indent=4).replace("\n", "\r\n"),
    "in one line": lambda document: json.dumps(document),
    "frames first": lambda document: json.dumps({"frames": document["frames"], "video": document["video"]}, indent=1),
    "after blank lines": lambda document: "\n\n\n" + json.dumps(document, indent=2),
    "as many lines as motserve would write": lambda document: "{\n" + json.dumps(document)[1:].replace(
        '"frames": [', '"frames": [\n', 1
    ),
    "with a name that looks like the frames": lambda document: json.dumps(
        {"video": {"name": '"frames": [\n{', "frames": [[], {}]}, "frames": document["frames"]}, indent=2
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_reformatted_document_is_read_with_the_right_lines(tmp_path: Path, layout: str) -> None:
    frames = records(6)
    head = {"name": "a\nb", "list": [1, [2], {}], "nothing": None}
    good = LAYOUTS[layout]({"video": head, "frames": frames})
    assert_same_rows(
        read_tracks(write(tmp_path, ".json", good)), read_tracks(write(tmp_path, ".ndjson", as_ndjson(frames)))
    )
    frames[3]["tracks"][1]["class"] = "the dog"
    text = LAYOUTS[layout]({"video": head, "frames": frames})
    # the frame begins at the last brace before its own number
    begins = text.rindex("{", 0, text.index('"frame": 3'))
    line = text.count("\n", 0, begins) + 1
    path = write(tmp_path, ".json", text)
    assert refusal(path).startswith(f"{path}, line {line}: class 'the dog'")


def without(frames: list[Record], *gone: int) -> list[Record]:
    return [frame for frame in frames if frame["frame"] not in gone]


@pytest.mark.parametrize("suffix", NAMING_FRAMES)
@pytest.mark.parametrize(
    ("frames", "place", "message"),
    [
        ([*records(3), *records(3)[2:]], 4, "frame 2 comes after frame 2"),
        ([records(3)[i] for i in (0, 2, 1)], 3, "frame 1 comes after frame 2"),
        (without(records(8), 3)[::-1], 2, "frame 6 comes after frame 7"),
    ],
    ids=["twice", "out of order", "backwards"],
)
def test_frames_that_do_not_increase_are_refused(
    tmp_path: Path, suffix: str, frames: list[Record], place: int, message: str
) -> None:
    path = write(tmp_path, suffix, NAMING_FRAMES[suffix](frames))
    line = place + (suffix == ".json")
    assert refusal(path).startswith(f"{path}, line {line}: {message}")


@pytest.mark.parametrize("suffix", NAMING_FRAMES)
@pytest.mark.parametrize("gone", [(5,), (0, 1), (2, 3, 6)])
def test_frames_without_an_image_leave_a_gap_and_others_keep_their_numbers(
    tmp_path: Path, suffix: str, gone: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    table = read_tracks(write(tmp_path, suffix, NAMING_FRAMES[suffix](without(records(8), *gone))))
    assert np.unique(table.frames).tolist() == [frame for frame in range(8) if frame not in gone]
    assert (table.frame_count, table.last_line) == (8, 8 - len(gone) + (suffix == ".json"))
    assert f"tracks{suffix} leaves out {len(gone)} frames before its last, 7" in caplog.text


def test_a_document_with_fewer_frames_than_its_summary_is_refused(tmp_path: Path) -> None:
    def document(frames: list[Record], status: str) -> str:
        head = {"status": status, "frames": 8}
        return b"".join(export((json.dumps(frame).encode() for frame in frames), "json", summary=head)).decode()

    assert read_tracks(write(tmp_path, ".json", document(records(8), "done"))).frame_count == 8
    path = write(tmp_path, ".json", document(without(records(8), 5), "done"))
    assert refusal(path) == f"{path} has 7 frames where its summary says 8; it is incomplete"
    assert read_tracks(write(tmp_path, ".json", document(records(4), "running"))).frame_count == 4


def test_rows_of_a_csv_may_come_in_any_order_and_leave_frames_out(tmp_path: Path) -> None:
    lines = as_csv(without(records(5), 2)).splitlines(keepends=True)
    table = read_tracks(write(tmp_path, ".csv", lines[0] + "".join(lines[:0:-1])))
    assert table.frames.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert table.ids.tolist() == [2, 1] * 4


def changed(path: list[str | int], value: object) -> list[Record]:
    frames = records(3)
    place: Any = frames[1]
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return frames


@pytest.mark.parametrize("suffix", NAMING_FRAMES)
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (["tracks", 0, "class"], "dog", "class 'dog' is not a person"),
        (["tracks", 0, "class"], None, "class None is not a person"),
        (["tracks", 0, "class"], ["person"], "class ['person'] is not a person"),
        (["tracks", 0, "class"], ..., "'class' is missing"),
        (["tracks", 0, "id"], ..., "'id' is missing"),
        (["tracks", 0, "id"], 1.5, "id must be a whole number"),
        (["tracks", 0, "id"], 1.0, "id must be a whole number"),
        (["tracks", 0, "id"], "7", "id must be a whole number"),
        (["tracks", 0, "id"], True, "id must be a whole number"),
        (["tracks", 0, "id"], None, "id must be a whole number"),
        (["tracks", 0, "id"], 10**18, "id must be a whole number below 2^53"),
        (["tracks", 0, "id"], 10**19, "id must be a whole number below 2^53"),
        (["tracks", 0, "box"], [1, 2, 3], "needs boxes"),
        (["tracks", 0, "box"], [1, 2, 3, 4, 5], "needs boxes"),
        (["tracks", 0, "box"], [], "needs boxes"),
        (["tracks", 0, "box"], "1234", "box must be made of numbers"),
        (["tracks", 0, "box"], [1, 2, "3", 4], "box must be made of numbers"),
        (["tracks", 0, "box"], [1, 2, None, 4], "box must be made of numbers"),
        (["tracks", 0, "box"], None, "not the tracks of a frame"),
        (["tracks", 0, "box"], [5, 5, 1, 9], "needs boxes with x1 <= x2"),
        (["tracks", 0, "box"], [5, 5, 9, 1], "needs boxes with x1 <= x2"),
        (["tracks", 0, "box"], [0, 0, 1e300, 1e300], "beyond 1000000 pixels"),
        (["tracks", 0, "box"], [-1e6 - 2, 0, 1, 1], "beyond 1000000 pixels"),
        (["tracks", 0, "confidence"], "high", "confidence must be made of numbers"),
        (["tracks", 0, "confidence"], ..., "'confidence' is missing"),
        (["tracks"], None, "not the tracks of a frame"),
        (["tracks"], 3, "not the tracks of a frame"),
        (["tracks"], "abc", "not the tracks of a frame"),
        (["tracks"], [[1]], "not the tracks of a frame"),
        (["tracks"], {"a": 1}, "not the tracks of a frame"),
        (["tracks"], ..., "'tracks' is missing"),
        (["frame"], ..., "'frame' is missing"),
        (["frame"], 1.0, "frame must be a whole number"),
        (["frame"], True, "frame must be a whole number"),
        (["frame"], "1", "frame must be a whole number"),
        (["frame"], -1, "frame must be from 0"),
        (["frame"], 1_000_000, "frame must be from 0 to 999999"),
    ],
)
def test_a_malformed_frame_is_named(
    tmp_path: Path, suffix: str, key: list[str | int], value: object, message: str
) -> None:
    path = write(tmp_path, suffix, NAMING_FRAMES[suffix](changed(key, value)))
    error = refusal(path)
    assert error.startswith(f"{path}, line {2 + (suffix == '.json')}: ")
    assert message in error


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_nan_and_infinity_are_not_json(tmp_path: Path, value: str) -> None:
    for suffix, line in ((".json", 3), (".ndjson", 2)):
        frames = NAMING_FRAMES[suffix](changed(["tracks", 0, "confidence"], 0.25)).replace("0.25", value)
        path = write(tmp_path, suffix, frames)
        assert refusal(path).startswith(f"{path}, line {line}: not JSON")


@pytest.mark.parametrize(
    "text", ["", " \n", "[1, 2]", "null", '"x"', "{}", '{"frames": {}}', '{"frames": null}', "[" * 9999, "1,1,1,1,1,1"]
)
def test_a_json_without_results_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, ".json", text)
    assert refusal(path).startswith(f"{path}, line 1: ")


def test_invalid_frames_are_named(tmp_path: Path) -> None:
    for value in (1, None, "x", [1]):
        path = write(tmp_path, ".json", json.dumps({"frames": [value]}))
        assert refusal(path).startswith(f"{path}, line 1: not the tracks of a frame")


@pytest.mark.parametrize("suffix", [".json", ".ndjson", ".csv"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    text = WRITERS[suffix](records(5))
    for length in (len(text) // 2, len(text) - 20):
        path = write(tmp_path, suffix, text[:length])
        assert refusal(path).startswith(f"{path}, line {text[:length].count(chr(10)) + 1}: ")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,0.1,1,1,dog,0.5,1,1,2,2", "class 'dog'"),
        ("1,0.1,1,1,person", "9 fields where the header has 14"),
        ("1,0.1,1,1,person,0.5,1,1,2,2,3", "15 fields"),
        ("1,0.1,1,1,person,0.5,1,1,2,two", "malformed row"),
        ("1,0.1,1,1,person,0.5,1,1,2,nan", "all finite"),
        ("1,0.1,1,1,person,inf,1,1,2,2", "all finite"),
        ("1,0.1,1,1,person,0.5,1,1,0,2", "x1 <= x2"),
        ("-1,0.1,1,1,person,0.5,1,1,2,2", "frame must be from 0"),
        ("1000000,0.1,1,1,person,0.5,1,1,2,2", "frame must be from 0 to 999999"),
        ("1.0,0.1,1,1,person,0.5,1,1,2,2", "frame must be a whole number"),
        ("1,0.1,1.5,1,person,0.5,1,1,2,2", "identity must be a whole number"),
        ("1,0.1,1_0,1,person,0.5,1,1,2,2", "identity must be a whole number"),
        ("1,0.1,\u0663,1,person,0.5,1,1,2,2", "identity must be a whole number"),
        ("1,0.1,,1,person,0.5,1,1,2,2", "identity must be a whole number"),
        (f"1,0.1,{10**18},1,person,0.5,1,1,2,2", "identity must be a whole number below 2^53"),
        (f"1,0.1,{'9' * 5000},1,person,0.5,1,1,2,2", "identity must be a whole number below 2^53"),
        ('1,0.1,1,1,"person,0.5,1,1,2,2', "malformed row"),
        (f"1,0.1,1,1,{'p' * 200_000},0.5,1,1,2,2", "malformed row"),
    ],
)
def test_a_malformed_csv_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path, ".csv", f"{HEADER}0,0.0,1,1,person,0.5,1,1,2,2,measured,,,\n\n{row},measured,,,\n")
    error = refusal(path)
    assert error.startswith(f"{path}, line 4: ")
    assert message in error


@pytest.mark.parametrize("header", ["", "\n", "frame,identity\n", HEADER.replace(",", ";"), HEADER.upper()])
def test_a_csv_with_other_columns_is_refused(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, ".csv", header)
    assert refusal(path).startswith(f"{path}, line 1: the header must be {HEADER.strip()}")


def test_a_class_with_a_line_break_is_not_a_person(tmp_path: Path) -> None:
    path = write(tmp_path, ".csv", f'{HEADER}0,0.0,1,1,"per\nson",0.5,1,1,2,2,measured,,,\n')
    assert "class 'per\\nson' is not a person" in refusal(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1_0,1,1,1,2,2,1", "not a number"),
        ("\u0661,1,1,1,2,2,1", "not a number"),
        ("0x1,1,1,1,2,2,1", "not a number"),
        ("1 1 1 1 2 2 1", "separated by blanks where the lines before have commas"),
        ("1;1;1;1;2;2;1", "separated by semicolons where the lines before have commas"),
        ("1\t1\t1\t1\t2\t2\t1", "separated by tabs where the lines before have commas"),
        ("1,1;1,1,2,2,1", "not a number"),
        ("1,1,1,1,2,2,1,,", "not a number"),
        ("# a note", "not a number"),
        ("frame,id,left,top,width,height,conf", "not a number"),
        ("1000001,1,1,1,2,2,1", "from 1 to 1000000"),
        ("1e18,1,1,1,2,2,1", "from 1 to 1000000"),
        ("1,9007199254740992,1,1,2,2,1", "id must be a whole number below 2^53"),
        ("1,1e19,1,1,2,2,1", "id must be a whole number below 2^53"),
        ("1,1.5,1,1,2,2,1", "id must be a whole number"),
        ("1,1,1e300,1,1e300,1e300,1", "beyond 1000000 pixels"),
        ("1,1,1e308,1,1e308,1,1", "beyond 1000000 pixels"),
        ("1,1,1,1,1,1000000,1", "beyond 1000000 pixels"),
        ("1,1,1,-1000001,1,1,1", "beyond 1000000 pixels"),
        ("1,1,-inf,1,2,2,1", "must be finite"),
        ("1,1,1,1,2,2,nan", "must be finite"),
        ("1,1,1,1,2,2,1e300", "below 2^53"),
        ("nan,1,1,1,2,2,1", "must be finite"),
        ("-1,1,1,1,2,2,1", "from 1 to 1000000"),
    ],
)
def test_a_malformed_row_of_text_is_named_after_blank_lines_and_form_feeds(
    tmp_path: Path, row: str, message: str
) -> None:
    # editors count no line at a form feed, which NumPy takes for a blank
    path = write(tmp_path, ".txt", f"2,1,1,1,2,2,1\x0c\n \n2,2,1,1,2,2,1\n{row}\n1,3,1,1,2,2,1\n")
    error = refusal(path)
    assert error.startswith(f"{path}, line 4: ")
    assert message in error


def test_the_largest_number_that_an_id_may_be(tmp_path: Path) -> None:
    largest = 2**53 - 1
    text = read_tracks(write(tmp_path, ".txt", f"1,{largest},1,1,2,2,1\n1,{largest - 1},1,1,2,2,1\n"))
    assert text.ids.tolist() == [largest, largest - 1]
    document = read_tracks(write(tmp_path, ".json", as_json(changed(["tracks", 0, "id"], largest))))
    assert largest in document.ids.tolist()


def test_errors_contain_the_whole_path(tmp_path: Path) -> None:
    for sequence in ("A", "B"):
        path = tmp_path / sequence / "gt.txt"
        path.parent.mkdir()
        path.write_text("1,1,1,1,x,2,1\n")
        with pytest.raises(InvalidData, match=f"{sequence}/gt.txt, line 1"):
            read_mot(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_unreadable_track_files_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(NotFound, match="no file"):
        read_tracks(tmp_path / f"none{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "cannot be read" in refusal(tmp_path / f"folder{suffix}")
    for data in (gzip.compress(b"1,1,1,1,2,2"), "1,1,1,1,2,2".encode("utf-16"), b"\x89PNG\xff\xfe"):
        path = write(tmp_path, suffix, data)
        assert refusal(path).startswith(str(path))


def test_other_suffixes_are_named(tmp_path: Path) -> None:
    for name in ("tracks.xml", "tracks", "tracks.txt.gz"):
        (tmp_path / name).write_text("1,1,1,1,2,2")
        assert refusal(tmp_path / name) == f"{tmp_path / name}: tracks are read from .csv, .json, .ndjson, .txt"


def test_tracks_of_other_classes_are_refused() -> None:
    with pytest.raises(InvalidData, match="my video, frame 0: class 'car' is not a person"):
        to_table(FRAMES, "my video", {0: "car", 2: "pedestrian"})

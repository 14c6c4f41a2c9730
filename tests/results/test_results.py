from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motserve.errors import InvalidData, NotFound
from motserve.results import (
    FORMATS,
    MEDIA_TYPES,
    SUFFIXES,
    ResultWriter,
    decode_frame,
    encode_frame,
    export,
    read_lines,
    read_mot,
    read_results,
)
from motserve.types import NO_DETECTION, Link, TrackedFrame, Tracks

NAMES = {0: "person", 3: 'bike, "fast"'}


def tracked(index: int, count: int, seed: int = 0) -> TrackedFrame:
    rng = np.random.default_rng((seed, index))
    boxes = rng.uniform(-50, 1900, (count, 4)).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(1, 300, (count, 2)).astype(np.float32)
    tracks = Tracks(
        np.arange(1, count + 1),
        boxes,
        rng.uniform(0, 1, count).astype(np.float32),
        rng.choice([0, 3], count),
        np.arange(count),
    )
    return TrackedFrame(index, index / 7, tracks, np.arange(101, 101 + count))


FRAMES = [tracked(0, 3), tracked(1, 0), tracked(2, 5), tracked(5, 1)]
LINES = [encode_frame(frame, NAMES) for frame in FRAMES]


def text(format_name: str, lines: list[bytes] = LINES, **head: object) -> str:
    return b"".join(export(lines, format_name, **head)).decode()  # type: ignore[arg-type]


def test_a_line_is_rounded_json() -> None:
    tracks = Tracks(
        np.array([4]),
        np.array([[12.345678, -0.001, 100.0, 200.999]], np.float32),
        np.array([0.87654321], np.float32),
        np.array([0]),
        np.array([2]),
    )
    assert encode_frame(TrackedFrame(3, 1 / 3, tracks, np.array([9])), NAMES) == (
        b'{"frame":3,"timestamp":0.333333,"tracks":[{"id":9,"track":4,"box":[12.35,0.0,100.0,201.0],'
        b'"confidence":0.8765,"class":"person","state":"measured"}]}\n'
    )


def test_invalid_frames_are_not_encoded() -> None:
    good = tracked(0, 1)
    bad = Tracks(good.tracks.ids, good.tracks.boxes * np.nan, good.tracks.scores, good.tracks.classes, np.zeros(1, int))
    with pytest.raises(ValueError, match="frame 0 has a box"):
        encode_frame(TrackedFrame(0, 0.0, bad, good.identities), NAMES)
    with pytest.raises(ValueError, match="class 3 has no name"):
        encode_frame(tracked(2, 5), {0: "person"})


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    with ResultWriter(path, NAMES) as writer:
        writer.append(FRAMES[:2])
        assert path.read_bytes() == b"".join(LINES[:2]), "what was appended can be read at once"
        writer.append(FRAMES[2:])
    for before, after in zip(FRAMES, read_results(path, NAMES), strict=True):
        assert after.index == before.index
        assert after.timestamp == pytest.approx(before.timestamp, abs=1e-6)
        assert after.identities.tolist() == before.identities.tolist()
        assert after.tracks.ids.tolist() == before.tracks.ids.tolist()
        assert after.tracks.classes.tolist() == before.tracks.classes.tolist()
        assert after.tracks.boxes.dtype == np.float32
        np.testing.assert_allclose(after.tracks.boxes, before.tracks.boxes, atol=0.0051)
        np.testing.assert_allclose(after.tracks.scores, before.tracks.scores, atol=0.000051)
        assert encode_frame(after, NAMES) == encode_frame(before, NAMES)


@given(
    st.lists(
        st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4, st.floats(0, 1, width=32), st.sampled_from([0, 3])), max_size=6
    ),
    st.integers(0, 10**6),
    st.floats(0, 1e5),
)
def test_a_result_that_is_read_and_written_again_is_unchanged(
    rows: list[tuple[float, ...]], index: int, timestamp: float
) -> None:
    table = np.array(rows, float).reshape(-1, 6)
    ids = np.arange(len(rows))
    tracks = Tracks(
        ids, table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64), ids
    )
    line = encode_frame(TrackedFrame(index, timestamp, tracks, ids), NAMES)
    again = decode_frame(line, {name: i for i, name in NAMES.items()}, "line")
    assert encode_frame(again, NAMES) == line


def test_every_format_has_the_same_contents() -> None:
    frames = json.loads(text("json"))["frames"]
    assert frames == [json.loads(line) for line in text("ndjson").splitlines()]
    rows = [(frame, track) for frame in frames for track in frame["tracks"]]
    table = list(csv.DictReader(io.StringIO(text("csv"))))
    mot = [line.split(",") for line in text("mot").splitlines()]
    assert len(rows) == len(table) == len(mot) == 9
    for (frame, track), row, fields in zip(rows, table, mot, strict=True):
        x1, y1, x2, y2 = track["box"]
        assert (int(row["frame"]), float(row["timestamp"])) == (frame["frame"], frame["timestamp"])
        assert (int(row["identity"]), int(row["track"]), row["class"]) == (track["id"], track["track"], track["class"])
        assert [float(row[c]) for c in ("x1", "y1", "x2", "y2")] == [x1, y1, x2, y2]
        assert float(row["confidence"]) == track["confidence"] == float(fields[6])
        assert [int(fields[0]), int(fields[1])] == [frame["frame"] + 1, track["id"]]
        assert [float(f) for f in fields[2:6]] == pytest.approx([x1 + 1, y1 + 1, x2 - x1, y2 - y1], abs=1e-9)
        assert fields[7:] == ["-1", "-1", "-1"]
        assert row["state"] == track["state"] == "measured"


def test_predicted_boxes_are_marked_in_json_and_csv() -> None:
    whole = tracked(0, 2)
    tracks = replace(whole.tracks, detections=np.array([NO_DETECTION, 5]))
    line = encode_frame(replace(whole, tracks=tracks), NAMES)
    assert [row["state"] for row in json.loads(line)["tracks"]] == ["predicted", "measured"]
    back = decode_frame(line, {name: index for index, name in NAMES.items()}, "line").tracks
    assert back.measured.tolist() == tracks.measured.tolist() == [False, True]
    table = list(csv.DictReader(io.StringIO(b"".join(export([line], "csv")).decode())))
    assert [row["state"] for row in table] == ["predicted", "measured"]
    older = line.replace(b',"state":"predicted"', b"").replace(b',"state":"measured"', b"")
    assert decode_frame(older, {name: index for index, name in NAMES.items()}, "line").tracks.measured.all()
    assert b"".join(export([older], "csv")).count(b",measured,,,\n") == 2
    with pytest.raises(InvalidData, match="'guessed' is missing or unknown"):
        decode_frame(line.replace(b"predicted", b"guessed"), {name: i for i, name in NAMES.items()}, "line")


def test_links_are_exported_to_json_and_csv(tmp_path: Path) -> None:
    link = Link(track=2, identity=102, previous_track=1, distance=0.21, gap_s=4.2, moved=1.5)
    frame = replace(tracked(0, 3), links=(link,))
    line = encode_frame(frame, NAMES)
    first, second, third = json.loads(line)["tracks"]
    assert second["reidentified_from"] == {"track": 1, "distance": 0.21, "gap_s": 4.2, "moved": 1.5}
    assert "reidentified_from" not in first
    assert "reidentified_from" not in third
    assert decode_frame(line, {name: index for index, name in NAMES.items()}, "here").links == (link,)
    table = list(csv.DictReader(io.StringIO(text("csv", [line]))))
    assert [row["reidentified_from"] for row in table] == ["", "1", ""]
    assert (table[1]["distance"], table[1]["gap_s"]) == ("0.21", "4.2")
    assert text("mot", [line]).count("\n") == 3


@pytest.mark.parametrize("change", [{"distance": None}, {"gap_s": "x"}, {"track": None}])
def test_a_malformed_link_is_named(change: dict[str, object]) -> None:
    link = Link(track=2, identity=102, previous_track=1, distance=0.21, gap_s=4.2, moved=1.5)
    record = json.loads(encode_frame(replace(tracked(0, 3), links=(link,)), NAMES))
    record["tracks"][1]["reidentified_from"].update(change)
    with pytest.raises(InvalidData, match="here: not the tracks of a frame"):
        decode_frame(json.dumps(record).encode(), {name: index for index, name in NAMES.items()}, "here")


def test_mot_export_reads_back(tmp_path: Path) -> None:
    (tmp_path / "tracks.txt").write_text(text("mot"))
    table = read_mot(tmp_path / "tracks.txt")
    assert table.frames.tolist() == [0] * 3 + [2] * 5 + [5]
    assert table.ids.tolist() == np.concatenate([f.identities for f in FRAMES]).tolist()
    np.testing.assert_allclose(table.boxes, np.concatenate([f.tracks.boxes for f in FRAMES]), atol=0.011)


def test_json_head_and_empty_video() -> None:
    head = {"video": {"width": np.int64(64)}, "models": {"detector": "a.pt"}, "summary": {"identities": 3}}
    document = json.loads(text("json", [], **head))
    assert document == {**head, "video": {"width": 64}, "frames": []}
    assert (
        text("csv", [])
        == "frame,timestamp,identity,track,class,confidence,x1,y1,x2,y2,state,reidentified_from,distance,gap_s\n"
    )
    assert text("mot", []) == text("ndjson", []) == ""


def test_every_format_has_a_media_type_and_a_suffix() -> None:
    assert set(FORMATS) == set(MEDIA_TYPES) == set(SUFFIXES) == {"json", "ndjson", "mot", "csv"}
    with pytest.raises(ValueError, match="unknown format 'xml'"):
        text("xml")


@pytest.mark.parametrize("format_name", FORMATS)
def test_export_is_lazy_and_in_blocks(format_name: str) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield LINES[0]

    blocks = export(endless(), format_name, block_bytes=1000)  # type: ignore[arg-type]
    assert taken == 0
    assert 1000 <= len(next(blocks)) < 2000
    assert taken < 20


def test_export_line_by_line() -> None:
    assert list(export(LINES, "ndjson", block_bytes=0)) == LINES


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"frame":0,"timestamp":0}',
        b'{"frame":-1,"timestamp":0,"tracks":[]}',
        b'{"frame":1.5,"timestamp":0,"tracks":[]}',
        b'{"frame":true,"timestamp":0,"tracks":[]}',
        b'{"frame":0,"timestamp":"x","tracks":[]}',
        b'{"frame":0,"timestamp":0,"tracks":3}',
        b'{"frame":0,"timestamp":0,"tracks":[3]}',
        b'{"frame":0,"timestamp":0,"tracks":[{"id":1,"track":1,"box":[1,2,3],"confidence":1,"class":"person"}]}',
        b'{"frame":0,"timestamp":0,"tracks":[{"id":1,"track":1,"box":[1,2,3,null],"confidence":1,"class":"person"}]}',
        b'{"frame":0,"timestamp":0,"tracks":[{"id":1,"track":1,"box":[1,2,3,4],"confidence":1,"class":"cat"}]}',
        b'{"frame":0,"timestamp":0,"tracks":[{"id":99999999999999999999,"track":1,"box":[1,2,3,4],"confidence":1,'
        b'"class":"person"}]}',
        b"\xff\xfe",
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "tracks.ndjson"
    path.write_bytes(LINES[0].replace(b'"frame":0', b'"frame":7') + line + b"\n")
    with pytest.raises(InvalidData, match=r"tracks\.ndjson, line 2"):
        list(read_results(path, NAMES))


@pytest.mark.parametrize("format_name", FORMATS)
def test_export_of_a_malformed_line_names_it(format_name: str) -> None:
    with pytest.raises(InvalidData, match=r"video 7, line 2"):
        text(format_name, [LINES[0], b"{oops\n"], name="video 7")
    with pytest.raises(InvalidData, match=r"video 7, line 1"):
        text(format_name, [b"3\n"], name="video 7")


def test_lines_out_of_order(tmp_path: Path) -> None:
    (tmp_path / "tracks.ndjson").write_bytes(LINES[2] + LINES[0])
    with pytest.raises(InvalidData, match="line 2: frame 0 comes after frame 2"):
        list(read_results(tmp_path / "tracks.ndjson", NAMES))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(read_lines(tmp_path / "none"))
    with pytest.raises(NotFound):
        read_mot(tmp_path / "none")


def test_a_torn_last_line_is_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    path.write_bytes(LINES[0] + LINES[1][:-5])
    assert list(read_lines(path)) == [LINES[0]]


def test_append_writes_all_frames_or_none_and_only_in_order(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    with ResultWriter(path, NAMES) as writer:
        writer.append([tracked(0, 1)])
        with pytest.raises(ValueError, match="frame 0 was appended where 2 comes next"):
            writer.append([tracked(1, 1), tracked(0, 1)])
        writer.append([])
        writer.append([tracked(1, 1)])
    assert [frame.index for frame in read_results(path, NAMES)] == [0, 1]


@pytest.mark.parametrize("tail", [b"", LINES[2][:20]])
def test_resuming_cuts_off_lines_after_the_checkpoint(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "tracks.ndjson"
    lines = [encode_frame(tracked(i, 2), NAMES) for i in range(6)]
    path.write_bytes(b"".join(lines[:5]) + tail)
    with ResultWriter(path, NAMES, resume_at=3) as writer:
        assert path.read_bytes() == b"".join(lines[:3])
        writer.append(tracked(i, 2) for i in range(3, 6))
    assert path.read_bytes() == b"".join(lines)


def test_resuming_counts_lines_instead_of_frame_numbers(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    lines = [encode_frame(tracked(i, 2), NAMES) for i in (0, 1, 3, 6, 7)]
    path.write_bytes(b"".join(lines))
    with ResultWriter(path, NAMES, resume_at=3) as writer:
        assert path.read_bytes() == b"".join(lines[:3])
        with pytest.raises(ValueError, match="frame 3 was appended where 4 comes next"):
            writer.append([tracked(3, 2)])
        writer.append(tracked(i, 2) for i in (6, 7))
    assert path.read_bytes() == b"".join(lines)
    path.write_bytes(lines[1] + lines[0])
    with pytest.raises(InvalidData, match="line 2: frame 0 comes after frame 1"):
        ResultWriter(path, NAMES, resume_at=2)


def test_resuming_with_missing_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tracks.ndjson"
    path.write_bytes(LINES[0])
    with pytest.raises(InvalidData, match="holds 1 frames and cannot be continued after 3"):
        ResultWriter(path, NAMES, resume_at=3)
    assert path.read_bytes() == LINES[0]
    with pytest.raises(InvalidData, match="holds 0 frames"):
        ResultWriter(tmp_path / "none", NAMES, resume_at=3)


def test_mot_columns(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("2,7,11,21,10.5,20,1,1,0.75\r\n1, 8, 1, 1, 3, 4, 0, 7, 1\n\n")
    table = read_mot(path)
    assert len(table) == 2
    assert (table.frames.tolist(), table.ids.tolist(), table.classes.tolist()) == ([0, 1], [8, 7], [7, 1])
    assert table.boxes.tolist() == [[0, 0, 3, 4], [10, 20, 20.5, 40]]
    assert (table.scores.tolist(), table.visibility.tolist()) == ([0, 1], [1, 0.75])
    assert table.boxes.dtype == np.float32
    assert table.frames.dtype == np.int64
    path.write_text("1,-1,5,5,10,10\n")
    short = read_mot(path)
    assert (short.scores.tolist(), short.classes.tolist(), short.visibility.tolist()) == ([1], [-1], [-1])
    path.write_text("\n")
    assert len(read_mot(path)) == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2,1,5,5,ten,10,1", "not a number"),
        ("2,1,5,5,10,10", "6 columns where the lines before have 7"),
        ("0,1,5,5,10,10,1", "whole number from 1"),
        ("1.5,1,5,5,10,10,1", "whole number from 1"),
        ("2,1,5,5,-10,10,1", "not be negative"),
        ("2,1,5,nan,10,10,1", "finite"),
        ("2,1,5,,10,10,1", "not a number"),
    ],
)
def test_a_malformed_mot_row_is_named(tmp_path: Path, row: str, reason: str) -> None:
    path = tmp_path / "det.txt"
    path.write_text(f"1,1,5,5,10,10,1\n\n{row}\n3,1,5,5,10,10,1\n")
    with pytest.raises(InvalidData, match=rf"det\.txt, line 3: .*{reason}"):
        read_mot(path)


def test_files_that_are_not_mot_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("1,2,3\n")
    with pytest.raises(InvalidData, match="3 columns where at least 6"):
        read_mot(path)
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InvalidData, match=r"det\.txt is not a text file"):
        read_mot(path)


def test_real_ground_truth_and_detections(data_dir: Path) -> None:
    table = read_mot(data_dir / "mot/MOT17-09/gt/gt.txt")
    people = (table.classes == 1) & (table.scores > 0)
    assert (people.sum(), len(np.unique(table.ids[people])), table.frames.max()) == (5325, 26, 524)
    assert table.visibility.min() >= 0
    for path in [*data_dir.glob("mot_gt/*/*/gt/gt.txt"), *data_dir.glob("dets/*/*.txt")]:
        assert len(read_mot(path)) > 0

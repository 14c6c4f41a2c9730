"""Scores equal those of TrackEval, which reads the same files from its own folder layout with its own rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trackeval_oracle import trackeval_scores

from motserve.config import load_config
from motserve.lab.evaluation import BENCHMARKS, Benchmark, combine, rules_for, score_sequence
from motserve.lab.evaluation.sequences import find_truth
from motserve.lab.experiments.detections import read_detections
from motserve.lab.experiments.tracking import track_detections
from motserve.results import encode_frame, export, read_mot

Row = tuple[float, ...]
Files = dict[str, tuple[Path, Path]]


def assert_equal(folder: Path, files: Files, lengths: dict[str, int], benchmark: Benchmark) -> dict[str, float]:
    scored = {}
    for name, (truth, tracks) in files.items():
        people = read_mot(truth)
        scored[name] = score_sequence(people, read_mot(tracks), rules_for(name, people, benchmark), lengths[name])
    ours = {name: one.scores.as_dict() for name, one in scored.items()} | {"combined": combine(scored).scores.as_dict()}
    theirs = trackeval_scores(folder, files, lengths, benchmark)
    for name in (*files, "combined"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name
    return theirs["combined"]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows))
    return path


def person(identity: int, frames: range, left: float, flag: int = 1, kind: int = 1) -> list[Row]:
    return [(f, identity, left + f, 20, 40, 100, flag, kind, 0.5) for f in frames]


def track(identity: int, frames: range, left: float, dx: float = 0) -> list[Row]:
    return [(f, identity, left + f + dx, 20, 40, 100, 0.9, -1, -1, -1) for f in frames]


CRAFTED: dict[str, tuple[list[Row], list[Row]]] = {
    "distractors of every class": (
        [row for kind in range(1, 14) for row in person(kind, range(1, 9), 100 * kind, kind=kind)],
        [row for kind in range(1, 14) for row in track(kind, range(1, 9), 100 * kind, dx=3)],
    ),
    "a distractor beside a person": (
        person(1, range(1, 9), 100) + person(2, range(1, 9), 110, kind=8),
        track(1, range(1, 9), 104) + track(2, range(1, 5), 111),
    ),
    "flagged zero": (
        person(1, range(1, 9), 100) + person(2, range(1, 9), 300, flag=0) + person(3, range(1, 9), 305),
        track(1, range(1, 9), 100) + track(2, range(1, 9), 301) + track(3, range(4, 9), 306),
    ),
    "a flag below zero": (
        person(1, range(1, 5), 100, flag=-1) + person(2, range(1, 5), 300),
        track(1, range(1, 5), 100),
    ),
    "a crowd in a heap": (
        [row for i in range(1, 9) for row in person(i, range(1, 13), 100 + 9 * i)],
        [row for i in range(1, 8) for row in track(i, range(1 + i % 3, 13), 104 + 9 * i)],
    ),
    "tracks that change places": (
        person(1, range(1, 13), 100) + person(2, range(1, 13), 120),
        track(1, range(1, 7), 100) + track(2, range(1, 7), 120)
        + track(2, range(7, 13), 100) + track(1, range(7, 13), 120),
    ),
    "empty frames on either side": (
        person(1, range(1, 4), 100) + person(1, range(8, 11), 100) + person(2, range(5, 8), 300),
        track(1, range(2, 6), 100) + track(2, range(9, 11), 100),
    ),
    "nothing at either end": (person(1, range(5, 9), 100), track(1, range(6, 8), 100)),
    "tracks before and after all people": (person(1, range(5, 9), 100), track(1, range(1, 13), 100)),
    "no tracks": (person(1, range(1, 9), 100), []),
    "no counted people": (person(1, range(1, 9), 100, flag=0), track(1, range(1, 9), 100)),
    "overlap of one half": ([(1, 1, 1, 1, 90, 10, 1, 1, 1)], [(1, 1, 31, 1, 90, 10, 1, -1, -1, -1)]),
    "boxes without area": (
        [(1, 1, 1, 1, 0, 10, 1, 1, 1), (1, 2, 50, 1, 9, 10, 1, 1, 1)],
        [(1, 1, 1, 1, 0, 10, 1, -1, -1, -1), (1, 2, 50, 1, 9, 0, 1, -1, -1, -1)],
    ),
    "large identities": (person(10**6, range(1, 5), 100), track(7 * 10**5, range(1, 5), 100)),
}  # fmt: skip


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_cases(tmp_path: Path, case: str, benchmark: Benchmark) -> None:
    truth, tracks = CRAFTED[case]
    files = {"a": (write(tmp_path / "gt.txt", truth), write(tmp_path / "tracks.txt", tracks))}
    assert_equal(tmp_path / "kit", files, {"a": 14}, benchmark)


def test_crafted_cases_together(tmp_path: Path) -> None:
    files: Files = {}
    for number, (truth, tracks) in enumerate(CRAFTED.values()):
        files[f"s{number}"] = (
            write(tmp_path / f"gt{number}.txt", truth),
            write(tmp_path / f"tracks{number}.txt", tracks),
        )
    assert_equal(tmp_path / "kit", files, dict.fromkeys(files, 14), "mot17")


boxes = st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
frames_and_ids = st.tuples(st.integers(1, 8), st.integers(1, 6))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    truth=st.dictionaries(frames_and_ids, st.tuples(boxes, st.integers(0, 1), st.integers(1, 13)), max_size=40),
    tracks=st.dictionaries(frames_and_ids, boxes, max_size=40),
    benchmark=st.sampled_from(BENCHMARKS),
)
def test_random_cases(
    tmp_path_factory: pytest.TempPathFactory,
    truth: dict[tuple[int, int], tuple[tuple[int, ...], int, int]],
    tracks: dict[tuple[int, int], tuple[int, ...]],
    benchmark: Benchmark,
) -> None:
    folder = tmp_path_factory.mktemp("random")
    rows = [(f, i, *box, flag, kind, 1) for (f, i), (box, flag, kind) in sorted(truth.items())]
    found = [(f, i, *box, 1, -1, -1, -1) for (f, i), box in sorted(tracks.items())]
    assert_equal(
        folder / "kit",
        {"a": (write(folder / "gt.txt", rows), write(folder / "tracks.txt", found))},
        {"a": 8},
        benchmark,
    )


def disturbed(truth: Path, seed: int) -> Iterator[Row]:
    """Return ground truth, including distractors, with the errors of a poor tracker."""
    random = np.random.default_rng(seed)
    table = read_mot(truth)
    seen = set()
    for frame, identity, box in zip(table.frames.tolist(), table.ids.tolist(), table.ltwh.tolist(), strict=True):
        renamed = identity + 1000 * (frame // 40) * int(random.random() < 0.5)
        if random.random() < 0.85 and (frame, renamed) not in seen:
            seen.add((frame, renamed))
            left, top, width, height = np.array(box) + random.normal(0, 4, 4)
            yield frame + 1, renamed, left, top, abs(width), abs(height), 0.9, -1, -1, -1


@pytest.mark.parametrize("benchmark", ["MOT15", "MOT17", "MOT20"])
def test_real_ground_truth(data_dir: Path, tmp_path: Path, benchmark: str) -> None:
    truths = find_truth(data_dir / "mot_gt" / benchmark)
    files = {
        name: (truth.path, write(tmp_path / f"{name}.txt", list(disturbed(truth.path, 3))))
        for name, truth in truths.items()
    }
    lengths = {name: truth.frames or 0 for name, truth in truths.items()}
    rules: Benchmark = benchmark.lower()  # type: ignore[assignment]
    combined = assert_equal(tmp_path / "kit", files, lengths, rules)
    assert 0.2 < combined["HOTA"] < 0.9


@pytest.mark.parametrize("benchmark", ["mot15", "mot17"])
def test_real_tracks(data_dir: Path, tmp_path: Path, benchmark: Benchmark) -> None:
    config = load_config(overrides={"reid": {"policy": "off"}})
    truths = find_truth(data_dir / "mot", ["MOT17-09"] if benchmark == "mot17" else ["PETS09-S2L1", "TUD-Campus"])
    files: Files = {}
    for name, truth in truths.items():
        seen = read_detections(data_dir / "dets" / "yolov8n_640" / f"{name}.txt", truth, config)
        tracked = track_detections(seen, config)
        lines = (encode_frame(frame, seen.class_names) for frame in tracked.frames)
        path = tmp_path / f"{name}.txt"
        path.write_bytes(b"".join(export(lines, "mot")))
        files[name] = (truth.path, path)
    lengths = {name: truth.frames or 0 for name, truth in truths.items()}
    assert_equal(tmp_path / "kit", files, lengths, benchmark)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [",", ";", "\t", " ", ", ", "; ", "   "])
@pytest.mark.parametrize("trailing", [False, True])
def test_separators_are_those_that_trackeval_accepts(tmp_path: Path, mark: str, trailing: bool, end: str) -> None:
    truth, tracks = CRAFTED["a distractor beside a person"]
    files = {}
    for name, rows in (("gt", truth), ("tracks", tracks)):
        plain, other = write(tmp_path / f"{name}.txt", rows), tmp_path / f"{name}-other.txt"
        lines = (row.replace(",", mark) + (mark if trailing else "") for row in plain.read_text().splitlines())
        other.write_bytes("".join(line + end for line in lines).encode())
        ours, expected = read_mot(other), read_mot(plain)
        assert (ours.frames.tolist(), ours.ids.tolist()) == (expected.frames.tolist(), expected.ids.tolist())
        assert (ours.ltwh.tolist(), ours.columns) == (expected.ltwh.tolist(), expected.columns)
        files[name] = other
    assert_equal(tmp_path / "kit", {"A": (files["gt"], files["tracks"])}, {"A": 8}, "mot17")

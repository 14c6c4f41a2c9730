from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motserve.errors import InvalidData
from motserve.lab.evaluation import Benchmark, MotScores, combine, rules_for, score_sequence
from motserve.lab.evaluation.preparation import prepare
from motserve.lab.evaluation.second_opinion import COMPARED, second_opinion
from motserve.results import read_mot

Row = tuple[float, ...]


def mot_file(folder: Path, rows: list[Row], name: str) -> Path:
    path = folder / f"{name}.txt"
    path.write_text("".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows))
    return path


def scores(folder: Path, truth: list[Row], tracks: list[Row], benchmark: Benchmark = "mot15") -> MotScores:
    people = read_mot(mot_file(folder, truth, "gt"))
    return score_sequence(
        people, read_mot(mot_file(folder, tracks, "tracks")), rules_for("a", people, benchmark)
    ).scores


def walk(person: int, frames: range, identity: int | None = None, flag: float = 1) -> list[Row]:
    left = 200.0 * person
    return [(f, identity or person, left + 2 * f, 10, 40, 100, flag, -1, -1, -1) for f in frames]


TRUTH = walk(1, range(1, 21)) + walk(2, range(1, 21))


def test_perfect_tracks_have_perfect_scores(tmp_path: Path) -> None:
    renamed = walk(1, range(1, 21), 7) + walk(2, range(1, 21), 3)
    result = scores(tmp_path, TRUTH, renamed)
    assert result == MotScores(*[1.0] * 9, *[0] * 4, 2, 0)


def test_a_changed_identity_is_one_switch(tmp_path: Path) -> None:
    result = scores(tmp_path, TRUTH, walk(1, range(1, 11)) + walk(1, range(11, 21), 9) + walk(2, range(1, 21)))
    assert result.id_switches == 1
    assert result.mota == pytest.approx(1 - 1 / 40)
    assert result.idf1 == pytest.approx(30 / 40)
    # of each detection: half of person 1 is in either track, all of person 2 in one
    assert result.assa == pytest.approx((20 * 1 + 20 * 0.5) / 40)
    assert result.hota == pytest.approx(np.sqrt(0.75))


def test_misses_and_false_positives_are_counted(tmp_path: Path) -> None:
    tracks = walk(1, range(1, 21)) + walk(2, range(1, 6)) + walk(2, range(10, 21)) + walk(8, range(1, 4))
    result = scores(tmp_path, TRUTH, tracks)
    assert (result.misses, result.false_positives, result.fragmentations, result.id_switches) == (4, 3, 1, 0)
    assert result.mota == pytest.approx(1 - 7 / 40)
    assert (result.mostly_tracked, result.mostly_lost) == (1, 0)


def test_an_iou_of_one_half_is_a_match_and_less_is_not(tmp_path: Path) -> None:
    assert scores(tmp_path, [(1, 1, 0, 0, 90, 10, 1)], [(1, 1, 30, 0, 90, 10, 1)]).mota == 1
    result = scores(tmp_path, [(1, 1, 0, 0, 90, 10, 1)], [(1, 1, 31, 0, 90, 10, 1)])
    assert (result.misses, result.false_positives) == (1, 1)


def test_rows_with_flag_zero_do_not_count(tmp_path: Path) -> None:
    assert scores(tmp_path, TRUTH + walk(3, range(1, 21), flag=0), TRUTH).mota == 1


def test_empty_tracks_miss_all_people(tmp_path: Path) -> None:
    result = scores(tmp_path, TRUTH, [])
    assert (result.mota, result.hota, result.misses, result.mostly_lost) == (0, 0, 40, 2)


def test_without_ground_truth_all_tracks_are_false_positives(tmp_path: Path) -> None:
    result = scores(tmp_path, [], TRUTH)
    assert (result.false_positives, result.misses, result.mota) == (40, 0, 0)
    assert scores(tmp_path, [], []).hota == 0


@pytest.mark.parametrize(
    ("benchmark", "row_class", "false_positives"),
    [
        ("mot17", 1, 0), ("mot17", 2, 0), ("mot17", 7, 0), ("mot17", 8, 0), ("mot17", 12, 0), ("mot16", 8, 0),
        ("mot17", 3, 5), ("mot17", 6, 5), ("mot17", 9, 5), ("mot17", 13, 5), ("mot20", 6, 0), ("mot20", 8, 0),
    ],
)  # fmt: skip
def test_a_track_of_a_distractor_does_not_count(
    tmp_path: Path, benchmark: Benchmark, row_class: int, false_positives: int
) -> None:
    people = [(f, 1, 10, 10, 40, 100, 1, 1, 1) for f in range(1, 6)]
    others = [(f, 2, 500, 10, 40, 100, 1, row_class, 1) for f in range(1, 6)]
    tracks = [(f, i, 10 + 490 * (i - 1), 10, 40, 100, 0.9, -1, -1, -1) for f in range(1, 6) for i in (1, 2)]
    result = scores(tmp_path, people + others, tracks, benchmark)
    assert (result.false_positives, result.misses) == (false_positives, 0)


def test_a_distractor_removes_the_track_matched_to_it_and_no_other(tmp_path: Path) -> None:
    # a person in front of a distractor: the better match decides which track is removed
    truth = [(1, 1, 0, 0, 40, 100, 1, 1, 1), (1, 2, 10, 0, 40, 100, 1, 8, 1)]
    tracks = [(1, 1, 0, 0, 40, 100, 1, -1, -1, -1), (1, 2, 10, 0, 40, 100, 1, -1, -1, -1)]
    assert scores(tmp_path, truth, tracks, "mot17").mota == 1
    result = scores(tmp_path, truth, [tracks[1]], "mot17")
    assert (result.misses, result.false_positives) == (1, 0)


def test_the_benchmark_is_detected_from_the_columns(tmp_path: Path) -> None:
    with_classes = read_mot(mot_file(tmp_path, [(1, 1, 0, 0, 40, 100, 1, 8, 1)], "a"))
    without = read_mot(mot_file(tmp_path, [(1, 1, 0, 0, 40, 100, 1, 8, 1, 0)], "b"))
    assert rules_for("street", with_classes).benchmark == "mot17"
    assert rules_for("MOT20-01", with_classes).benchmark == "mot20"
    assert rules_for("MOT17-02", without).benchmark == "mot15"
    assert rules_for("street", with_classes, "mot15").benchmark == "mot15"


def test_combined_scores_weight_sequences_by_their_boxes(tmp_path: Path) -> None:
    people = read_mot(mot_file(tmp_path, TRUTH, "gt"))
    rules = rules_for("a", people)
    perfect = score_sequence(people, people, rules)
    one = read_mot(mot_file(tmp_path, walk(1, range(1, 3)), "one"))
    half = score_sequence(people, one, rules)
    both = combine({"perfect": perfect, "half": half}).scores
    assert both.misses == 38
    assert both.mota == pytest.approx(42 / 80)
    assert both.mostly_tracked == 2


def test_curves_have_a_value_for_each_iou_threshold(tmp_path: Path) -> None:
    people = read_mot(mot_file(tmp_path, TRUTH, "gt"))
    scored = score_sequence(people, people, rules_for("a", people))
    assert scored.curves["alpha"] == pytest.approx(np.arange(5, 100, 5) / 100)
    assert scored.curves["HOTA"] == [1.0] * 19


def box(frame: int, identity: int, *rest: float) -> Row:
    return (frame, identity, 0, 0, 9, 9, *(rest or (1,)))


@pytest.mark.parametrize(
    ("truth", "tracks", "frames", "said"),
    [
        ([], [box(1, 1), box(1, 2), box(1, 1)], None, r"tracks\.txt, line 3: ID 1 .*twice"),
        ([box(2, 4), box(1, 1), box(2, 4)], [], None, r"gt\.txt, line 3: ID 4 .*twice in frame 2, also in line 1"),
        ([], [box(1, 1), box(7, 1)], 6, r"tracks\.txt, line 2: frame 7 of a sequence of 6"),
        ([box(7, 1)], [], 6, r"gt\.txt, line 1: frame 7"),
        ([], [box(1, -1)], None, r"tracks\.txt, line 1: ID -1 is not a track"),
        ([], [box(1, 1, 1, 3)], None, r"tracks\.txt, line 1: class 3"),
        ([box(1, 1, 1, 1, 1), box(1, 2, 1, 14, 1)], [], None, r"gt\.txt, line 2: class 14 is unknown to mot17"),
        ([box(1, 1, 1, 0, 1)], [], None, r"gt\.txt, line 1: class 0"),
    ],
)
def test_invalid_rows_are_named_with_file_and_line(
    tmp_path: Path, truth: list[Row], tracks: list[Row], frames: int | None, said: str
) -> None:
    people = read_mot(mot_file(tmp_path, truth, "gt"))
    with pytest.raises(InvalidData, match=said):
        prepare(people, read_mot(mot_file(tmp_path, tracks, "tracks")), rules_for("a", people), frames)


def random_case(seed: int) -> tuple[list[Row], list[Row]]:
    """People far apart from each other, tracked with noise, misses, false alarms and swapped or new identities.

    Each person is in every frame: the packages resolve ambiguous matches differently.
    """
    random = np.random.default_rng(seed)
    people, frames = 8, 60
    place = np.stack([200.0 * np.arange(people), np.zeros(people)], axis=1)
    names = np.arange(1, people + 1)
    following = people + 1
    truth: list[Row] = []
    tracks: list[Row] = []
    for frame in range(1, frames + 1):
        place += random.normal(scale=2, size=(people, 2))
        if random.random() < 0.1:
            first, second = random.choice(people, 2, replace=False)
            names[[first, second]] = names[[second, first]]
        if random.random() < 0.1:
            names[random.integers(people)] = following
            following += 1
        for person, (x, y) in enumerate(place):
            truth.append((frame, person + 1, x, y, 40, 100, 1))
            if random.random() < 0.85:
                dx, dy = random.normal(scale=5, size=2)
                tracks.append((frame, int(names[person]), x + dx, y + dy, 40, 100, 0.9))
        for _ in range(random.poisson(0.5)):
            tracks.append((frame, following, 5000, 0, 40, 100, 0.9))
            following += 1
    return truth, tracks


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_those_of_motmetrics(tmp_path: Path, seed: int) -> None:
    truth, tracks = (read_mot(mot_file(tmp_path, rows, str(i))) for i, rows in enumerate(random_case(seed)))
    rules = rules_for("random", truth)
    ours = score_sequence(truth, tracks, rules).scores.as_dict()
    theirs = second_opinion(prepare(truth, tracks, rules))
    assert ours["IDSW"] > 5
    assert tuple(theirs) == COMPARED
    assert {name: ours[name] for name in COMPARED} == pytest.approx(theirs, abs=1e-9)

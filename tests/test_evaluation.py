from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motserve.evaluation import MotScores, score_tracks
from motserve.results import MotTable, read_mot


def table(rows: list[tuple[float, ...]]) -> MotTable:
    """Rows of frame, id, x1, y1, x2, y2 and flag."""
    columns = np.array(rows, np.float64).reshape(-1, 7)
    nothing = np.full(len(columns), -1)
    return MotTable(
        columns[:, 0].astype(np.int64),
        columns[:, 1].astype(np.int64),
        columns[:, 2:6].astype(np.float32),
        columns[:, 6].astype(np.float32),
        nothing,
        nothing.astype(np.float32),
    )


def walk(person: int, frames: range, identity: int | None = None, shift: float = 0.0) -> list[tuple[float, ...]]:
    left = 200.0 * person + shift
    return [(f, identity or person, left + 2 * f, 10, left + 2 * f + 40, 110, 1) for f in frames]


TRUTH = walk(1, range(20)) + walk(2, range(20))


def test_perfect_tracks_have_perfect_scores() -> None:
    renamed = walk(1, range(20), 7) + walk(2, range(20), 3)
    assert score_tracks(table(TRUTH), table(renamed)) == MotScores(1.0, 1.0, 0, 0, 0, 0)


def test_a_changed_identity_is_one_switch() -> None:
    results = walk(1, range(10)) + walk(1, range(10, 20), 9) + walk(2, range(20))
    scores = score_tracks(table(TRUTH), table(results))
    assert scores.id_switches == 1
    assert scores.mota == pytest.approx(1 - 1 / 40)
    assert scores.idf1 == pytest.approx(30 / 40)


def test_misses_and_false_positives_are_counted() -> None:
    results = walk(1, range(20)) + walk(2, range(0, 5)) + walk(2, range(9, 20)) + walk(8, range(3))
    scores = score_tracks(table(TRUTH), table(results))
    assert (scores.misses, scores.false_positives, scores.fragmentations, scores.id_switches) == (4, 3, 1, 0)
    assert scores.mota == pytest.approx(1 - 7 / 40)


def test_half_an_overlap_is_a_match_and_less_is_none() -> None:
    truth = table([(0, 1, 0, 0, 90, 10, 1)])
    assert score_tracks(truth, table([(0, 1, 30, 0, 120, 10, 1)])).mota == 1
    scores = score_tracks(truth, table([(0, 1, 31, 0, 121, 10, 1)]))
    assert (scores.misses, scores.false_positives) == (1, 1)


def test_rows_flagged_zero_do_not_count() -> None:
    flagged = [(*row[:6], 0.0) for row in walk(3, range(20))]
    assert score_tracks(table(TRUTH + flagged), table(TRUTH)).mota == 1


def test_tracks_of_nothing_miss_everybody() -> None:
    assert score_tracks(table(TRUTH), table([])) == MotScores(0.0, 0.0, 0, 0, 40, 0)


def test_without_people_accuracy_is_not_finite() -> None:
    alarms, nothing = score_tracks(table([]), table(TRUTH)), score_tracks(table([]), table([]))
    assert (alarms.false_positives, alarms.idf1) == (40, 0)
    assert not np.isfinite([alarms.mota, nothing.mota, nothing.idf1]).any()


def made_up(seed: int) -> tuple[MotTable, MotTable]:
    """People tracked with scatter, misses, false alarms and swapped or new identities.

    They keep apart, and each is in every frame of the truth: the libraries resolve ambiguous matches differently, and
    count a fragmentation differently where the truth itself has a gap.
    """
    random = np.random.default_rng(seed)
    people, frames = 8, 60
    place = np.stack([200.0 * np.arange(people), np.zeros(people)], axis=1)
    names = np.arange(1, people + 1)
    following = people + 1
    truth: list[tuple[float, ...]] = []
    results: list[tuple[float, ...]] = []
    for frame in range(frames):
        place += random.normal(scale=2, size=(people, 2))
        if random.random() < 0.1:
            first, second = random.choice(people, 2, replace=False)
            names[[first, second]] = names[[second, first]]
        if random.random() < 0.1:
            names[random.integers(people)] = following
            following += 1
        for person, (x, y) in enumerate(place):
            truth.append((frame, person + 1, x, y, x + 40, y + 100, 1))
            if random.random() < 0.85:
                dx, dy = random.normal(scale=5, size=2)
                results.append((frame, names[person], x + dx, y + dy, x + dx + 40, y + dy + 100, 0.9))
        for _ in range(random.poisson(0.5)):
            results.append((frame, following, 5000, 0, 5040, 100, 0.9))
            following += 1
    return table(truth), table(results)


def trackeval_scores(truth: MotTable, results: MotTable) -> dict[str, float]:
    """The scores by TrackEval, the reference implementation of MOTChallenge."""
    metrics = pytest.importorskip("trackeval").metrics
    frames = int(max(truth.frames.max(), results.frames.max())) + 1

    def relabelled(of: MotTable) -> list[np.ndarray]:
        labels = np.unique(of.ids, return_inverse=True)[1]
        return [labels[of.frames == frame] for frame in range(frames)]

    def iou(frame: int) -> np.ndarray:
        a = truth.boxes[truth.frames == frame].astype(np.float64)[:, None]
        b = results.boxes[results.frames == frame].astype(np.float64)[None]
        sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
        shared = sides.clip(0).prod(-1)
        return shared / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared)

    data = {
        "gt_ids": relabelled(truth),
        "tracker_ids": relabelled(results),
        "similarity_scores": [iou(frame) for frame in range(frames)],
        "num_gt_ids": len(np.unique(truth.ids)),
        "num_tracker_ids": len(np.unique(results.ids)),
        "num_gt_dets": len(truth),
        "num_tracker_dets": len(results),
        "num_timesteps": frames,
        "seq": "made up",
    }
    quiet = {"PRINT_CONFIG": False, "THRESHOLD": 0.5}
    return {**metrics.CLEAR(quiet).eval_sequence(data), **metrics.Identity(quiet).eval_sequence(data)}


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_trackeval(seed: int) -> None:
    truth, results = made_up(seed)
    ours, theirs = score_tracks(truth, results), trackeval_scores(truth, results)
    assert ours.id_switches > 5
    assert ours.mota == pytest.approx(theirs["MOTA"], abs=1e-9)
    assert ours.idf1 == pytest.approx(theirs["IDF1"], abs=1e-9)
    assert (ours.id_switches, ours.misses, ours.false_positives, ours.fragmentations) == (
        theirs["IDSW"], theirs["CLR_FN"], theirs["CLR_FP"], theirs["Frag"]
    )  # fmt: skip


def test_ground_truth_against_itself_is_perfect(data_dir: Path) -> None:
    truth = read_mot(data_dir / "mot" / "TUD-Campus" / "gt" / "gt.txt")
    assert score_tracks(truth, truth) == MotScores(1.0, 1.0, 0, 0, 0, 0)

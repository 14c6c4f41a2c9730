"""Prepares ground truth and tracks of a sequence for the metrics, by the rules of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from motserve.errors import InvalidData
from motserve.lab.evaluation.benchmarks import KNOWN_CLASSES, PEDESTRIAN, Rules
from motserve.results import MotTable
from motserve.types import BoolArray, IntArray

_EPSILON = float(np.finfo(np.float64).eps)
_LEAST_IOU = 0.5  # of a match with a distractor, fixed by the benchmarks
_WITH_CLASSES = 9  # columns of ground truth that has classes; that of MOT15 has 10 and none


@dataclass(frozen=True, slots=True)
class PreparedSequence:
    """A sequence frame by frame, without the boxes that do not count.

    Attributes:
        truth_ids: For each frame `(n,)` int64, people of the ground truth, numbered from 0 without gaps.
        track_ids: For each frame `(m,)` int64, tracks, numbered from 0 without gaps.
        similarity: For each frame `(n, m)` float64, IoU in [0, 1].
        people: Number of people in the ground truth.
        tracks: Number of tracks.
    """

    truth_ids: list[IntArray]
    track_ids: list[IntArray]
    similarity: list[NDArray[np.float64]]
    people: int
    tracks: int


def prepare(truth: MotTable, tracks: MotTable, rules: Rules, frames: int | None = None) -> PreparedSequence:
    """Check both tables and apply the rules of a benchmark.

    Tracks are matched one to one with all ground truth of a frame, of any class, by the largest sum of IoU of at
    least 0.5. Tracks matched to a distractor are removed. Of the ground truth, pedestrians with a non-zero flag stay.

    Args:
        truth: Ground truth.
        tracks: Tracks of the same sequence.
        rules: Rules of the benchmark.
        frames: Length of the sequence; None if it ends with the last row.

    Returns:
        The boxes that count.

    Raises:
        InvalidData: An ID occurs twice in a frame or is negative, a frame is after the end of the sequence or is
            missing, or a class is unknown; the message names file and line.
    """
    frames = _length(truth, tracks, frames)
    check_truth(truth, rules, frames)
    _check_end(tracks, frames)
    for table in (truth, tracks):
        _check_ids(table)
    _check_tracked_classes(tracks)
    counted = counted_people(truth, rules)
    truth_parts, track_parts = rows_by_frame(truth, frames), rows_by_frame(tracks, frames)
    truth_rows, track_rows, similarity = [], [], []
    for people, tracked in zip(truth_parts, track_parts, strict=True):
        overlap = pairwise_iou(truth.ltwh[people], tracks.ltwh[tracked])
        if rules.classes and overlap.size:
            keep_mask = np.ones(len(tracked), np.bool_)
            keep_mask[_on_distractors(overlap, truth.classes[people], rules)] = False
            tracked, overlap = tracked[keep_mask], overlap[:, keep_mask]
        is_counted = counted[people]
        truth_rows.append(people[is_counted])
        track_rows.append(tracked)
        similarity.append(overlap[is_counted])
    truth_ids, person_count = _renumber(truth.ids, truth_rows)
    track_ids, track_count = _renumber(tracks.ids, track_rows)
    return PreparedSequence(truth_ids, track_ids, similarity, person_count, track_count)


def pairwise_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of each box of one set with each of another.

    Args:
        a: `(n, 4)` float64, left, top, width, height.
        b: `(m, 4)` float64, same layout.

    Returns:
        `(n, m)` float64 in [0, 1]; 0 for boxes without area.

    >>> pairwise_iou(np.array([[0., 0, 2, 2]]), np.array([[1., 0, 2, 2], [5, 5, 0, 0]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    first = np.concatenate([a[:, :2], a[:, :2] + a[:, 2:]], axis=1)
    second = np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    # areas from the corners, not from width and height: rounding must equal that of TrackEval to the last bit
    area_a, area_b = ((c[:, 2] - c[:, 0]) * (c[:, 3] - c[:, 1]) for c in (first, second))
    shared[area_a <= _EPSILON] = 0
    shared[:, area_b <= _EPSILON] = 0
    union = area_a[:, None] + area_b[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > _EPSILON))


def _length(truth: MotTable, tracks: MotTable, frames: int | None) -> int:
    if frames is None:
        frames = max([tracks.frame_count or 0, *(int(t.frames.max()) + 1 for t in (truth, tracks) if len(t))])
    return frames


def _check_end(table: MotTable, frames: int) -> None:
    beyond = np.flatnonzero(table.frames >= frames)
    if beyond.size:
        row = beyond[0]
        raise InvalidData(
            f"{table.name}, line {table.lines[row]}: frame {_number(table, row)} of a sequence of {frames} frames"
        )
    if table.frame_count is not None and table.frame_count < frames:
        missing = table.frame_count + table.first_frame
        raise InvalidData(
            f"{table.name}, line {table.last_line + 1}: frame {missing} is missing; the file ends before the sequence "
            f"of {frames} frames does"
        )


def _number(table: MotTable, row: np.intp) -> int:
    """Return the number of a frame in the file."""
    return int(table.frames[row]) + table.first_frame


def _check_ids(table: MotTable) -> None:
    negative = np.flatnonzero(table.ids < 0)
    if negative.size:
        row = negative[0]
        raise InvalidData(
            f"{table.name}, line {table.lines[row]}: ID {table.ids[row]} is not a track; detections cannot be scored "
            "as tracks"
        )
    order = np.lexsort((table.lines, table.ids, table.frames))
    frames, ids = table.frames[order], table.ids[order]
    twice = np.flatnonzero((frames[1:] == frames[:-1]) & (ids[1:] == ids[:-1]))
    if twice.size:
        first, second = order[twice[0]], order[twice[0] + 1]
        raise InvalidData(
            f"{table.name}, line {table.lines[second]}: ID {table.ids[second]} occurs twice in frame "
            f"{_number(table, second)}, also in line {table.lines[first]}"
        )


def check_truth(truth: MotTable, rules: Rules, frames: int) -> None:
    """Check that ground truth does not extend beyond its sequence and that its classes are known.

    Args:
        truth: Ground truth.
        rules: Rules of the benchmark.
        frames: Length of the sequence.

    Raises:
        InvalidData: A row is not valid; the message names file and line.
    """
    _check_end(truth, frames)
    unknown = np.flatnonzero(~np.isin(truth.classes, KNOWN_CLASSES)) if rules.classes else np.empty(0, np.int64)
    if unknown.size:
        row = unknown[0]
        hint = "" if truth.columns == _WITH_CLASSES else f"; this file has {truth.columns} columns, not {_WITH_CLASSES}"
        raise InvalidData(
            f"{truth.name}, line {truth.lines[row]}: class {truth.classes[row]} is unknown to {rules.benchmark}, whose "
            f"classes are {KNOWN_CLASSES.start} to {KNOWN_CLASSES.stop - 1}{hint}"
        )


def _check_tracked_classes(tracks: MotTable) -> None:
    others = np.flatnonzero(tracks.classes > PEDESTRIAN)
    if others.size:
        row = others[0]
        raise InvalidData(
            f"{tracks.name}, line {tracks.lines[row]}: class {tracks.classes[row]} cannot be scored; tracks are "
            f"pedestrians, class {PEDESTRIAN} or -1"
        )


def counted_people(truth: MotTable, rules: Rules) -> BoolArray:
    """Return a mask of the people that count. The flag is a whole number; fractions of one count as zero."""
    flagged: BoolArray = truth.scores.astype(np.int64) != 0
    return flagged & (truth.classes == PEDESTRIAN) if rules.classes else flagged


def rows_by_frame(table: MotTable, frames: int) -> list[IntArray]:
    """Return the rows of each frame; the table is sorted by frame."""
    borders = np.searchsorted(table.frames, np.arange(1, frames))
    return list(np.split(np.arange(len(table)), borders)) if frames else []


def _on_distractors(overlap: NDArray[np.float64], classes: IntArray, rules: Rules) -> IntArray:
    """Return the columns that match a distractor."""
    scores = np.where(overlap < _LEAST_IOU - _EPSILON, 0.0, overlap)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    matched = scores[rows, columns] > _EPSILON
    rows, columns = rows[matched], columns[matched]
    return np.asarray(columns[np.isin(classes[rows], list(rules.distractors))], np.int64)


def _renumber(ids: IntArray, rows: list[IntArray]) -> tuple[list[IntArray], int]:
    """Renumber the remaining IDs from 0, in ascending order."""
    if not rows:
        return [], 0
    names, numbers = np.unique(ids[np.concatenate(rows)], return_inverse=True)
    return list(np.split(numbers, np.cumsum([len(part) for part in rows])[:-1])), len(names)

"""Converts MOT17 and MOT20 to labels, COCO annotations and sequences, one half for training and one for validation.

The halves are those of CenterTrack (Zhou et al. 2020) and ByteTrack (Zhang et al. 2022): of n
frames of each sequence, the first n // 2 + 1 are `train`, the others `val`. The output holds, for each half:

- `images/`, `labels/` and, for both, `data.yaml`: for Ultralytics, one class, boxes clipped at the picture border;
- `annotations/<half>.json`: COCO, boxes as in the ground truth. `frame_id` counts in the whole sequence from 1, as the
  names of pictures do; `track_id` is unique in its `video`. Distractors and people with flag 0 are `iscrowd` and
  `ignore`; other classes, such as cars and occluders, are left out;
- `sequences/<half>/<sequence>/`: a MOTChallenge sequence with frames from 1 and every row of the ground truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motserve.errors import InvalidData
from motserve.lab.datasets.catalogue import MotContents
from motserve.lab.datasets.coco import CocoWriter
from motserve.lab.datasets.mot_source import MotSequence, choose_sequences, find_root, find_sequence
from motserve.lab.datasets.output import Output
from motserve.lab.datasets.survey import Survey
from motserve.lab.datasets.yolo import clip_boxes, data_yaml, label_text
from motserve.results import MotTable, read_mot
from motserve.results.mot import split_row
from motserve.types import BoolArray, IntArray

_HALVES = ("train", "val")
_PEDESTRIAN = 1
_COLUMNS = 9  # frame, id, box, flag, class, visibility
_ORIGIN = np.array([1.0, 1.0, 0.0, 0.0])  # files count pixels from 1
_COUNTED = ("sequences", "pictures", "identities", "boxes", "ignored", "labels")


@dataclass(frozen=True, slots=True)
class _Split:
    """One half during writing."""

    name: str
    coco: CocoWriter
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Truth:
    """The ground truth of a sequence.

    Attributes:
        table: All n rows, sorted by frame.
        boxes: `(n, 4)` float64, left, top, width and height in pixels, origin 0.
        people: `(n,)` bool, people that count in the benchmark.
        ignored: `(n,)` bool, rows whose detection counts neither as right nor as wrong.
        starts: `(frames + 1,)` int64, where the rows of each frame begin; the last is n.
        lines: The lines of the file.
    """

    table: MotTable
    boxes: NDArray[np.float64]
    people: BoolArray
    ignored: BoolArray
    starts: IntArray
    lines: Sequence[str]


def survey(source: Path, contents: MotContents, names: Sequence[str]) -> Survey:
    """Survey a downloaded MOT17 or MOT20.

    Args:
        source: The folder with `train`, that folder itself, or one with the folders of sequences.
        contents: The data set.
        names: Names of the only sequences to use; empty for all.

    Raises:
        NotFound: The data set has no sequence of such a name.
        InvalidData: The folder does not hold the data set.
    """
    chosen = choose_sequences(contents, names)
    root = find_root(source, contents)
    sequences: list[MotSequence] = []
    left_out: list[str] = []
    for name in chosen:
        sequence, complaints = find_sequence(root, name, contents)
        left_out += complaints
        if sequence is not None:
            sequences.append(sequence)
    return Survey(
        root,
        tuple(left_out),
        sum(len(sequence.pictures) for sequence in sequences),
        "output",
        {sequence.name: sequence.folder.name for sequence in sequences},
        {"split": "half", "sequences": list(chosen)},
        partial(_write, contents, sequences),
    )


def halves(length: int) -> dict[str, range]:
    """Return the frames of both halves of a sequence, counted from 0.

    >>> halves(5)
    {'train': range(0, 3), 'val': range(3, 5)}
    """
    middle = length // 2 + 1
    return dict(zip(_HALVES, (range(middle), range(middle, length)), strict=True))


def _write(contents: MotContents, sequences: Sequence[MotSequence], out: Output) -> dict[str, Any]:
    with ExitStack() as stack:
        splits = {}
        for name in _HALVES:
            file = stack.enter_context(out.open(f"annotations/{name}.json"))
            splits[name] = _Split(name, CocoWriter(file, f"{contents.title}, half {name}"))
        for sequence in sequences:
            _write_sequence(sequence, contents, splits, out)
        for split in splits.values():
            split.coco.finish()
    out.write("data.yaml", data_yaml(_HALVES))
    return {name: {key: split.counts[key] for key in _COUNTED} for name, split in splits.items()}


def _write_sequence(sequence: MotSequence, contents: MotContents, splits: Mapping[str, _Split], out: Output) -> None:
    out.read(sequence.info)
    out.read(sequence.ground_truth)
    truth = _read_truth(sequence, contents)
    for name, frames in halves(len(sequence.pictures)).items():
        split = splits[name]
        for frame in frames:
            _write_frame(sequence, truth, frame, frame - frames.start + 1, split, out)
        rows = slice(truth.starts[frames.start], truth.starts[frames.stop])
        split.counts["sequences"] += 1
        split.counts["pictures"] += len(frames)
        split.counts["identities"] += len(np.unique(truth.table.ids[rows][truth.people[rows]]))
        folder = f"sequences/{name}/{sequence.name}"
        out.write(f"{folder}/gt/gt.txt", _renumbered(truth, rows, frames.start))
        out.write(f"{folder}/seqinfo.ini", _seqinfo(sequence, len(frames)))


def _write_frame(sequence: MotSequence, truth: _Truth, frame: int, number: int, split: _Split, out: Output) -> None:
    """Write one frame: index `frame` from 0 in the source, number `number` from 1 in its half."""
    picture = sequence.pictures[frame]
    stem = f"{sequence.name}_{frame + 1:06d}"
    suffix = picture.path.suffix.lower()
    out.link(
        picture,
        f"images/{split.name}/{stem}{suffix}",
        f"sequences/{split.name}/{sequence.name}/img1/{number:06d}{suffix}",
    )
    rows = np.arange(truth.starts[frame], truth.starts[frame + 1])
    people = rows[truth.people[rows]]
    labels = clip_boxes(truth.boxes[people], sequence.width, sequence.height)
    out.write(f"labels/{split.name}/{stem}.txt", label_text(labels))
    image = split.coco.picture(
        f"{stem}{suffix}", sequence.width, sequence.height, frame_id=frame + 1, video=sequence.name
    )
    labelled = rows[truth.people[rows] | truth.ignored[rows]]
    for box, track, visibility, ignored in zip(
        truth.boxes[labelled].tolist(),
        truth.table.ids[labelled].tolist(),
        truth.table.visibility[labelled].tolist(),
        truth.ignored[labelled].tolist(),
        strict=True,
    ):
        split.coco.annotation(image, box, ignored, track_id=track, visibility=round(visibility, 5))
    split.counts["boxes"] += len(people)
    split.counts["ignored"] += len(labelled) - len(people)
    split.counts["labels"] += len(labels)


def _read_truth(sequence: MotSequence, contents: MotContents) -> _Truth:
    name = f"{sequence.folder.name}/gt/gt.txt"
    try:
        table = read_mot(sequence.ground_truth)
    except InvalidData as error:
        raise InvalidData(f"{sequence.folder.name}/gt/{error}") from error
    length = len(sequence.pictures)
    if len(table) and table.frames[-1] >= length:
        line = table.lines[table.frames >= length].min()
        raise InvalidData(f"{name}, line {line}: the frame is beyond the {length} frames of the sequence")
    if table.columns != _COLUMNS:
        raise InvalidData(f"{name} has {table.columns} columns; ground truth of {contents.title} has {_COLUMNS}")
    pedestrians = table.classes == _PEDESTRIAN
    people = pedestrians & (table.scores.astype(np.int64) != 0)  # as an integer, as the benchmark reads the flag
    return _Truth(
        table,
        table.ltwh - _ORIGIN,
        people,
        (pedestrians & ~people) | np.isin(table.classes, list(contents.distractors)),
        np.searchsorted(table.frames, np.arange(length + 1)).astype(np.int64),
        sequence.ground_truth.read_text(encoding="utf-8-sig").split("\n"),
    )


def _renumbered(truth: _Truth, rows: slice, start: int) -> bytes:
    """Return rows in the order and with the text of the file, but with frame `start` as 1."""
    lines = truth.table.lines[rows]
    frames = truth.table.frames[rows]
    order = np.argsort(lines)
    rest = (split_row(truth.lines[line - 1])[1:] for line in lines[order].tolist())
    numbers = (frames[order] - start + 1).tolist()
    return "".join(f"{number},{','.join(fields)}\n" for number, fields in zip(numbers, rest, strict=True)).encode()


def _seqinfo(sequence: MotSequence, length: int) -> bytes:
    fields = {
        "name": sequence.name,
        "imDir": "img1",
        "frameRate": sequence.rate_hz,
        "seqLength": length,
        "imWidth": sequence.width,
        "imHeight": sequence.height,
        "imExt": sequence.pictures[0].path.suffix.lower(),
    }
    return "\n".join(["[Sequence]", *(f"{key}={value}" for key, value in fields.items()), ""]).encode()

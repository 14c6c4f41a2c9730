"""Judges links of tracks to identities by ground truth."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from motserve.lab.evaluation.preparation import pairwise_iou
from motserve.results import MotTable
from motserve.types import Link, TrackedFrame

_LEAST_IOU: Final = 0.5
"""Minimum IoU of a box that shows a person, as in CLEAR."""

_ENDS: Final = 5
"""Frames at the beginning or end of a track that decide which person it shows."""


@dataclass(frozen=True, slots=True)
class JudgedLink:
    """A link and the people it connects.

    Attributes:
        frame: First frame of the track, from 0.
        link: The link.
        person: Ground truth ID of the person at the beginning of the track; None for no person.
        usual: Person that the identity showed in most frames before; None for no person.
        latest: Person that the identity showed last; None for no person.
    """

    frame: int
    link: Link
    person: int | None
    usual: int | None
    latest: int | None

    @property
    def is_right(self) -> bool:
        """Whether the identity belonged to this person."""
        return self.person is not None and self.person in (self.usual, self.latest)


def judge_links(frames: Sequence[TrackedFrame], truth: MotTable) -> list[JudgedLink]:
    """Judge every link in the tracks of a video.

    A tracker may switch from one person to another within a track, and the identity moves with it. That is not an error
    of the link: it is right if the identity showed this person in most frames before, or last.

    Args:
        frames: The tracks.
        truth: The ground truth; all rows are used, those with flag 0 too.
    """
    shown = _shown(frames, truth)
    begins: defaultdict[int, list[int]] = defaultdict(list)
    for frame, people in zip(frames, shown, strict=True):
        for track, person in zip(frame.tracks.ids.tolist(), people, strict=True):
            if person is not None:
                begins[track].append(person)
    judged: list[JudgedLink] = []
    history: defaultdict[int, list[int]] = defaultdict(list)
    for frame, people in zip(frames, shown, strict=True):
        for link in frame.links:
            before = history[link.identity]
            judged.append(
                JudgedLink(frame.index, link, _most(begins[link.track][:_ENDS]), _most(before), _most(before[-_ENDS:]))
            )
        for identity, person in zip(frame.identities.tolist(), people, strict=True):
            if person is not None:
                history[identity].append(person)
    return judged


def _shown(frames: Sequence[TrackedFrame], truth: MotTable) -> list[list[int | None]]:
    """Return, for each frame, the person that each box shows."""
    shown = []
    numbers = [frame.index for frame in frames]
    begins, ends = (np.searchsorted(truth.frames, numbers, side=side).tolist() for side in ("left", "right"))
    for frame, begin, end in zip(frames, begins, ends, strict=True):
        boxes = frame.tracks.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        boxes[:, :2] += 1  # the ground truth counts pixels from 1
        overlap = pairwise_iou(truth.ltwh[begin:end], boxes)
        people: list[int | None] = [None] * len(boxes)
        for person, row in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[person, row] >= _LEAST_IOU:
                people[row] = int(truth.ids[begin + person])
        shown.append(people)
    return shown


def _most(people: Sequence[int]) -> int | None:
    return Counter(people).most_common(1)[0][0] if people else None

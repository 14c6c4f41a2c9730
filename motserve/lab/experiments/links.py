"""Says which links of tracks to identities were right, by ground truth."""

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
"""Overlap from which on a box shows a person, as in CLEAR."""

_ENDS: Final = 5
"""Frames at either end that tell whom it shows."""


@dataclass(frozen=True, slots=True)
class JudgedLink:
    """A link, and whom it joins.

    Attributes:
        frame: Frame in which the track begins, from 0.
        link: The link.
        person: Whom the track shows at its beginning, an ID of the ground truth; None for nobody.
        usual: Whom the identity had shown most of the time before; None for nobody.
        latest: Whom it had shown last.
    """

    frame: int
    link: Link
    person: int | None
    usual: int | None
    latest: int | None

    @property
    def is_right(self) -> bool:
        """Whether the identity was this person's."""
        return self.person is not None and self.person in (self.usual, self.latest)


def judge_links(frames: Sequence[TrackedFrame], truth: MotTable) -> list[JudgedLink]:
    """Judge every link in the tracks of a video.

    A tracker may take one person for another within a track, and the identity goes with it. What it did is no matter of
    the link: this is right where the identity had been this person's most of the time, or at last.

    Args:
        frames: The tracks.
        truth: The ground truth; every row is taken, counted or not.
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
    """Return for each frame whom each of its boxes shows."""
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

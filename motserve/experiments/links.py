"""Says which links of tracks to identities were right, by ground truth."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from motserve.evaluation.preparation import pairwise_iou
from motserve.results import MotTable
from motserve.types import Link, TrackedFrame

_LEAST_IOU: Final = 0.5
"""Overlap from which on a box shows a person, as in CLEAR."""

_ENDS: Final = 15
"""Frames at the end of one track and at the beginning of the next that tell whom they show."""


@dataclass(frozen=True, slots=True)
class JudgedLink:
    """A link, and who the two tracks follow.

    Attributes:
        frame: Frame in which the track begins, from 0.
        link: The link.
        person: Whom the track follows in most of its frames, an ID of the ground truth; None for nobody.
        former_person: The same of the track before.
    """

    frame: int
    link: Link
    person: int | None
    former_person: int | None

    @property
    def is_right(self) -> bool:
        """Whether both are the same person."""
        return self.person is not None and self.person == self.former_person


def judge_links(frames: Sequence[TrackedFrame], truth: MotTable) -> list[JudgedLink]:
    """Judge every link in the tracks of a video.

    A tracker may take one person for another within a track. That is no matter of the link, so what counts is whom the
    track before showed at its end, and whom the new one shows at its beginning.

    Args:
        frames: The tracks.
        truth: The ground truth; every row is taken, counted or not.
    """
    shown = _shown(frames, truth)
    return [
        JudgedLink(frame.index, link, _most(shown[link.track][:_ENDS]), _most(shown[link.former][-_ENDS:]))
        for frame in frames
        for link in frame.links
    ]


def _shown(frames: Sequence[TrackedFrame], truth: MotTable) -> defaultdict[int, list[int]]:
    """Return the people that each track shows, frame by frame where it shows one."""
    shown: defaultdict[int, list[int]] = defaultdict(list)
    begins = np.searchsorted(truth.frames, [frame.index for frame in frames])
    ends = np.searchsorted(truth.frames, [frame.index for frame in frames], side="right")
    for frame, begin, end in zip(frames, begins.tolist(), ends.tolist(), strict=True):
        boxes = frame.tracks.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        boxes[:, :2] += 1  # the ground truth counts pixels from 1
        overlap = pairwise_iou(truth.ltwh[begin:end], boxes)
        for person, row in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[person, row] >= _LEAST_IOU:
                shown[int(frame.tracks.ids[row])].append(int(truth.ids[begin + person]))
    return shown


def _most(people: Sequence[int]) -> int | None:
    return Counter(people).most_common(1)[0][0] if people else None

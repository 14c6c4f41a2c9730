"""Pairs of tracklets that a tracker did not link, from ground truth and a simulated detector.

A linker judges the pairs that the tracker itself could not link, which are harder than random pairs. So trackers run
first, on simulated detections: in turn the default tracker, whose long buffer leaves hard pairs, and others with a
shorter buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from motserve.base import TrackerBase
from motserve.config import ByteTrackConfig, LinkingConfig, SortConfig, TrackerConfig
from motserve.errors import InvalidData
from motserve.lab.evaluation.sequences import TruthFile
from motserve.postprocessing import CandidateLinks, find_candidate_links
from motserve.postprocessing.aflink import COORDINATES, Shape, encode
from motserve.results import MotTable, read_mot
from motserve.tracking import build_tracker
from motserve.types import Detections, FloatArray, IntArray, TrackedFrame
from training.linker.config import LinkerTraining, SimulatedDetectorConfig
from training.progress import Say, quiet

_PEDESTRIAN = 1
_CLASSED_COLUMNS = 9  # of ground truth with class and visibility
_FALLBACK_RATE_HZ = 30.0
_TRACKERS: Final[Sequence[TrackerConfig]] = (
    ByteTrackConfig(),
    ByteTrackConfig(lost_buffer_s=0.5),
    SortConfig(),
)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Inputs of the network and labels.

    Attributes:
        inputs: `(n, 2, points, 4)` float32.
        same: `(n,)` float32, 1 where both tracklets are the same person.
    """

    inputs: FloatArray
    same: FloatArray


def collect_pairs(
    truths: list[TruthFile],
    runs: int,
    settings: LinkerTraining,
    shape: Shape,
    rng: np.random.Generator,
    say: Say = quiet,
) -> Pairs:
    """Return the pairs that trackers do not link.

    Args:
        truths: The sequences.
        runs: Runs over each sequence, each with another random detector.
        settings: The simulated detector and the limits of pairs.
        shape: Sampling of a tracklet.
        rng: Random generator.
        say: Prints a line for each sequence.

    Raises:
        InvalidData: A file is malformed or has no visibility, or there is no pair.
    """
    inputs, same = [np.empty((0, 2, shape.points, COORDINATES), np.float32)], [np.empty(0, np.float32)]
    for number, truth in enumerate(truths, 1):
        table, rate = read_mot(truth.path), truth.rate_hz or _FALLBACK_RATE_HZ
        if table.columns != _CLASSED_COLUMNS:
            raise InvalidData(f"{truth.path} has no visibility column; MOT17 and MOT20 have one")
        for run in range(runs):
            tracker = _TRACKERS[run % len(_TRACKERS)]
            unlinked = _unlinked_pairs(_people(table), truth.frames, build_tracker(tracker, rate), rate, settings, rng)
            inputs.extend(encode(*pair, shape)[None] for pair in unlinked[0].tracklets())
            same.append(unlinked[1])
        say(f"tracked {truth.name}, {number}/{len(truths)}: {sum(map(len, same))} pairs so far")
    pairs = Pairs(np.concatenate(inputs), np.concatenate(same))
    if not pairs.same.any():
        raise InvalidData("the ground truth leaves no pair of the same person; it has too few people or frames")
    return pairs


def varied(inputs: FloatArray, settings: LinkerTraining, rng: np.random.Generator) -> FloatArray:
    """Return augmented pairs: mirrored, at another tempo, and with camera drift.

    The ground truth has few cameras and few people; the network must ignore what both tracklets have in common.
    """
    count, inputs = len(inputs), inputs.copy()
    inputs[:, :, :, 1] *= np.where(rng.random(count) < 0.5, -1, 1).astype(np.float32)[:, None, None]
    inputs[:, :, :, 0] *= np.exp(rng.normal(0, settings.tempo, count)).astype(np.float32)[:, None, None]
    drift = rng.normal(0, settings.drift, (count, 2)).astype(np.float32)
    inputs[:, :, :, 1:3] += inputs[:, :, :, :1] * drift[:, None, None]
    return inputs


def _people(table: MotTable) -> MotTable:
    return table.select((table.scores > 0) & (table.classes == _PEDESTRIAN))


def _unlinked_pairs(
    people: MotTable,
    frames: int | None,
    tracker: TrackerBase,
    rate: float,
    settings: LinkerTraining,
    rng: np.random.Generator,
) -> tuple[CandidateLinks, FloatArray]:
    """Track simulated detections; return the pairs that are not linked and whether each is the same person."""
    tracked: list[TrackedFrame] = []
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, (detections, persons) in enumerate(_detect(people, frames, settings.detector, rng)):
        tracks = tracker.update(detections, index / rate)
        tracked.append(TrackedFrame(index, index / rate, tracks, tracks.ids))
        for identity, row in zip(tracks.ids.tolist(), tracks.detections.tolist(), strict=True):
            last[identity] = int(persons[row])
            first.setdefault(identity, last[identity])
    limits = LinkingConfig(max_gap_s=settings.max_gap_s, max_distance=settings.max_distance)
    candidates = find_candidate_links(tracked, limits)
    person_before = np.array(
        [last[identity] for identity in candidates.identities[candidates.before].tolist()], np.int64
    )
    person_after = np.array(
        [first[identity] for identity in candidates.identities[candidates.after].tolist()], np.int64
    )
    return candidates, (person_before == person_after).astype(np.float32)


def _detect(
    people: MotTable, frames: int | None, detector: SimulatedDetectorConfig, rng: np.random.Generator
) -> list[tuple[Detections, IntArray]]:
    """Return the simulated detections of each frame, and the person of each detection."""
    count = frames or int(people.frames.max(initial=-1)) + 1
    order = np.lexsort((people.frames, people.ids))
    boxes = people.ltwh[order]
    boxes[:, 2:] += boxes[:, :2]
    height = (boxes[:, 3] - boxes[:, 1])[:, None]
    boxes += (
        height
        * detector.jitter
        * np.stack([_correlated_noise(len(order), detector.correlation, rng) for _ in range(4)], axis=1)
    )
    visibility = people.visibility[order] + detector.visibility_noise * _correlated_noise(
        len(order), detector.correlation, rng
    )
    confidence = np.clip(detector.max_confidence * visibility / (visibility.clip(0) + detector.half_visibility), 0, 1)
    visible = np.flatnonzero((confidence > detector.min_confidence) & (boxes[:, 2:] > boxes[:, :2] + 1).all(axis=1))
    frame_of_row = people.frames[order][visible]
    visible, frame_of_row = visible[np.argsort(frame_of_row, kind="stable")], np.sort(frame_of_row, kind="stable")
    parts = np.split(visible, np.searchsorted(frame_of_row, np.arange(1, count)))
    return [
        (
            Detections(
                boxes[part].astype(np.float32), confidence[part].astype(np.float32), np.zeros(len(part), np.int64)
            ),
            people.ids[order][part],
        )
        for part in parts
    ]


def _correlated_noise(count: int, correlation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return noise of variance 1 that is correlated along the rows."""
    noise = rng.normal(0, np.sqrt(1 - correlation**2), count)
    noise[:1] = rng.normal(0, 1)
    return np.asarray(lfilter([1.0], [1.0, -correlation], noise))

"""Renders a scene frame by frame, with exact ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motserve.lab.scenes.clothing import PersonAppearance, sample_cast
from motserve.lab.scenes.config import SceneConfig
from motserve.lab.scenes.cutout import Cutout
from motserve.lab.scenes.paths import plan
from motserve.lab.scenes.stage import STILL, Stage
from motserve.types import FloatArray, Frame, IntArray

PEDESTRIAN = 1
"""Class of a counted person in MOTChallenge ground truth."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels of all people in one frame, including fully occluded ones.

    Attributes:
        ids: `(n,)` int64, identity from 1, ascending.
        boxes: `(n, 4)` float32, xyxy in pixels, whole body; may reach beyond the frame.
        visibility: `(n,)` float32 in [0, 1], visible share of the body.
    """

    ids: IntArray
    boxes: FloatArray
    visibility: FloatArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """One frame of a scene and its ground truth."""

    frame: Frame
    truth: Truth


def render(config: SceneConfig, cast: Sequence[PersonAppearance | Cutout] | None = None) -> Iterator[RenderedFrame]:
    """Render a scene lazily; memory does not grow with its length.

    Args:
        config: The scene; equal configurations give equal frames.
        cast: Appearance of each identity; None draws as many people as the scene has.

    Yields:
        The frames in display order.
    """
    stage = Stage(config)
    appearances = sample_cast(np.random.default_rng([config.seed, 10]), config.people) if cast is None else cast
    people = plan(config, stage.camera, appearances, np.random.default_rng([config.seed, 11]))
    moves = bool(config.shake or config.shake_degrees)
    for index in range(config.frames):
        time = index / config.rate_hz
        present = [(person.id, place) for person in people if (place := person.at(time)) is not None]
        motion = stage.shake.at(time) if moves else STILL
        shot = stage.shoot([place for _, place in present], motion, index)
        ids = np.array([identity for identity, _ in present], np.int64)
        in_frame = _overlaps_frame(shot.boxes, config.width, config.height)
        truth = Truth(ids[in_frame], shot.boxes[in_frame], shot.visibility[in_frame])
        yield RenderedFrame(Frame(index, time, shot.image), truth)


def ground_truth_rows(frames: Iterable[RenderedFrame], min_visibility: float = 0.0) -> Iterator[str]:
    """Format ground truth as MOTChallenge rows: `frame,id,left,top,width,height,flag,class,visibility`.

    Frames and pixels count from 1. A person outside the frame has no row. A fully occluded person in the frame has the
    flag 0 and does not count.

    Args:
        frames: Rendered frames.
        min_visibility: The flag is 1 above this visibility, in [0, 1].

    Yields:
        One line for each person and frame, without a line break.
    """
    for rendered in frames:
        truth = rendered.truth
        for identity, box, visibility in zip(truth.ids, truth.boxes.astype(float), truth.visibility, strict=True):
            left, top, right, bottom = box
            flag = int(visibility > min_visibility)
            yield (
                f"{rendered.frame.index + 1},{identity},{left + 1:.2f},{top + 1:.2f},{right - left:.2f},"
                f"{bottom - top:.2f},{flag},{PEDESTRIAN},{visibility:.4f}"
            )


def _overlaps_frame(boxes: FloatArray, width: int, height: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    left, top, right, bottom = boxes.T
    return np.asarray((right > 0) & (bottom > 0) & (left < width) & (top < height))

"""Tracks detections of the user's own, without pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from motserve.config import Config, choose_config
from motserve.config.tracker import needs_embeddings
from motserve.config.tree import Layer
from motserve.errors import InvalidConfig, InvalidData
from motserve.tracking import build_tracker
from motserve.types import MAX_COORDINATE, Detections, Tracks

_COLUMNS: Final = (5, 6)
"""x1, y1, x2, y2, confidence, and the class or none, which is class 0."""

_SHORTEST_SIDE: Final = 1e-3  # pixels; the trackers refuse thinner boxes
_LARGEST_CLASS: Final = 2**53  # float64 does not represent every larger whole number


class Tracker:
    """Tracks detections of one video by motion. Each video or camera needs its own object.

    ```python
    tracker = motserve.Tracker()
    tracks = tracker.update([[10, 20, 50, 120, 0.9, 0]], timestamp=0.04)
    ```

    There are no pictures here: people who return get a new track ID, and camera motion is not compensated.
    `motserve.track` does both.

    Args:
        config: A configuration, or YAML files or mappings with parts of it; only its section `tracker` is used.
        tracker: Name of a tracker, or a YAML file with its section.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
        overrides: Settings as on the command line, such as `["tracker.lost_buffer_s=3"]`.

    Attributes:
        config: The configuration.

    Raises:
        InvalidConfig: A setting is not valid, or the tracker needs pictures.
    """

    def __init__(
        self,
        config: Config | Layer | Sequence[Layer] | None = None,
        *,
        tracker: str | Path | None = None,
        rate_hz: float | None = None,
        overrides: str | Sequence[str] = (),
    ) -> None:
        self.config = choose_config(config, tracker=tracker, overrides=overrides)
        name = self.config.tracker.name
        if needs_embeddings(self.config.tracker):
            raise InvalidConfig(
                f"{name} with this configuration compares appearance, which needs pictures: use motserve.track, or "
                "another tracker such as bytetrack"
            )
        if rate_hz is not None and not (_is_number(rate_hz) and rate_hz > 0):
            raise InvalidConfig(f"rate_hz must be a number of Hz above 0, not {rate_hz!r:.80}")
        self._tracker = build_tracker(self.config.tracker, None if rate_hz is None else float(rate_hz))

    def update(self, detections: Detections | ArrayLike | Any, timestamp: float) -> Tracks:
        """Advance by one frame. Call it for frames without detections too.

        Args:
            detections: The detections of the frame, weak ones included: `motserve.Detections`,
                `supervision.Detections`, or numbers `(n, 6)`: x1, y1, x2, y2 in pixels, confidence in [0, 1], class
                index; with `(n, 5)` the class is 0. Lists and arrays of any type of numbers; an empty list is a frame
                without detections.
            timestamp: Time of the frame in seconds, greater than that of the previous frame.

        Returns:
            The confirmed tracks of the frame. `tracks.detections` is the row of each one's detection.

        Raises:
            InvalidData: A row is not a detection, or the timestamp does not increase; the message names the row. The
                tracker is unchanged.
        """
        if not _is_number(timestamp):
            raise InvalidData(f"timestamp must be a number of seconds, not {timestamp!r:.80}")
        frame = as_detections(detections)
        try:
            return self._tracker.update(frame, float(timestamp))
        except ValueError as error:
            raise InvalidData(str(error)) from error


def as_detections(given: object) -> Detections:
    """Return detections of any accepted form as `Detections`.

    Args:
        given: See `Tracker.update`.

    Raises:
        InvalidData: A row is not a detection; the message names it.
    """
    boxes: Any
    scores: Any
    classes: Any  # `Detections` converts them
    if isinstance(given, Detections):
        boxes, scores, classes = given.boxes, given.scores, given.classes
    elif hasattr(given, "xyxy") and hasattr(given, "confidence"):
        boxes, scores, classes = _columns_of(given)
    else:
        rows = _numbers(given, "detections")
        if not rows.size:
            return Detections.empty()
        if rows.ndim != 2 or rows.shape[1] not in _COLUMNS:
            raise InvalidData(
                f"detections must have the shape (n, 6): x1, y1, x2, y2, confidence, class; or (n, 5) without class; "
                f"not {rows.shape}"
            )
        boxes, scores = rows[:, :4], rows[:, 4]
        classes = rows[:, 5] if rows.shape[1] == max(_COLUMNS) else np.zeros(len(rows))
    _check(boxes, scores, classes)
    return Detections(boxes, scores, classes)


def _columns_of(given: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return boxes, scores and classes of `supervision.Detections`."""
    boxes = _numbers(given.xyxy, "xyxy")
    boxes = boxes if boxes.size else boxes.reshape(0, 4)
    if boxes.shape != (len(boxes), 4):
        raise InvalidData(f"xyxy must have the shape (n, 4), not {boxes.shape}")
    if given.confidence is None and len(boxes):
        raise InvalidData("the detections have no confidence, which the tracker needs")
    scores = _numbers(given.confidence if given.confidence is not None else [], "confidence")
    class_id = getattr(given, "class_id", None)
    classes = np.zeros(len(boxes)) if class_id is None else _numbers(class_id, "class_id")
    if scores.shape != (len(boxes),) or classes.shape != (len(boxes),):
        raise InvalidData(f"there are {len(boxes)} boxes, but confidence {scores.shape} and class {classes.shape}")
    return boxes, scores, classes


def _numbers(values: object, what: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values)
        if numbers.size and numbers.dtype.kind not in "buif":
            raise ValueError(f"they are {numbers.dtype}")
        return numbers.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor with gradients
        raise InvalidData(f"{what} must be an array or a list of numbers on the CPU: {error}") from error


def _check(boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any]) -> None:
    """Refuse rows that are not detections.

    Raises:
        InvalidData: A row is not a detection; the message names it, counted from 0.
    """
    with np.errstate(all="ignore"):
        is_whole = (np.trunc(classes) == classes) & (np.abs(classes) < _LARGEST_CLASS)
        checks = (
            (~np.isfinite(boxes).all(axis=1), "has a box that is not finite"),
            (
                (np.abs(boxes) > MAX_COORDINATE).any(axis=1),
                f"has a box that reaches beyond {MAX_COORDINATE:.0f} pixels",
            ),
            (
                (boxes[:, 2:] - boxes[:, :2] < _SHORTEST_SIDE).any(axis=1),
                "has a box without area; x2 must be above x1 and y2 above y1",
            ),
            (~((scores >= 0) & (scores <= 1)), "has a confidence that is not in [0, 1]"),
            (~is_whole, "has a class that is not a whole number"),
        )
    for is_bad, message in checks:
        if is_bad.any():
            row = int(np.argmax(is_bad))
            numbers = [*boxes[row].tolist(), float(scores[row]), float(classes[row])]
            raise InvalidData(f"detection {row} {message}: {', '.join(f'{number:g}' for number in numbers)}")


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False

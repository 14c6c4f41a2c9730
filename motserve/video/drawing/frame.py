"""Draws the tracks of one frame: boxes, trails, labels, marks of returned people, time and count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import cv2
import numpy as np

from motserve.config import AnnotationConfig
from motserve.types import Image, TrackedFrame
from motserve.video.drawing.colours import Colour, colour_of
from motserve.video.drawing.placement import Rectangle, place_labels
from motserve.video.drawing.state import AnnotationState
from motserve.video.drawing.tags import render_tag

_STATUS_COLOUR: Final[Colour] = (24, 24, 24)
_SMALLEST_LINE: Final = 10
"""A line takes at most a tenth of the shorter side of its box, so that it does not cover a small person."""
_PERSON: Final = "person"


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes in pixels for a picture.

    Attributes:
        line: Width of a line.
        text: Height of a digit.
    """

    line: int
    text: int

    @classmethod
    def for_picture(cls, width: int, height: int, config: AnnotationConfig) -> Style:
        """Return the sizes for a picture; they grow with its shorter side, so that portrait video has the same.

        >>> [Style.for_picture(w, h, AnnotationConfig()) for w, h in ((854, 480), (1080, 1920), (3840, 2160))]
        [Style(line=2, text=8), Style(line=5, text=16), Style(line=10, text=32)]
        """
        short = min(width, height)
        line = max(2.0, short / 216) * config.line_scale
        return cls(max(1, round(line)), max(6, round(max(8.0, short / 68) * config.text_scale)))


def draw(
    image: Image,
    frame: TrackedFrame,
    class_names: Mapping[int, str],
    config: AnnotationConfig | None = None,
    state: AnnotationState | None = None,
) -> Image:
    """Draw the tracks of one frame into a copy of its image.

    Args:
        image: `(height, width, 3)` uint8 BGR; it is not changed.
        frame: The tracks; boxes may extend beyond the image.
        class_names: Names of class indices; labels name the class where there is more than one.
        config: What is drawn and how large; the defaults if None.
        state: What is shown of earlier frames, advanced to this frame; nothing if None.

    Returns:
        The annotated copy.
    """
    config = config or AnnotationConfig()
    state = state or AnnotationState().advance(frame, config)
    canvas: Image = image.copy()
    height, width = canvas.shape[:2]
    style = Style.for_picture(width, height, config)
    _draw_trails(canvas, state, style)
    boxes = _pixels(frame, width, height)
    is_measured = frame.tracks.measured.tolist()
    identities = frame.identities.tolist()
    # Boxes with a higher bottom edge first, so that those of close people stay on top.
    for row in sorted(range(len(boxes)), key=lambda row: boxes[row][3]):
        colour = colour_of(identities[row])
        _draw_box(canvas, boxes[row], colour, style, is_measured[row], identities[row] in state.returned)
    status = _status(frame, class_names, config, style)
    taken = _put_status(canvas, status, config) if status is not None else []
    tags = [
        render_tag(label, colour_of(identity), style.text, identity in state.returned)
        for identity, label in zip(identities, _labels(frame, class_names, config), strict=True)
    ]
    _put_labels(canvas, boxes, identities, tags, taken, style)
    return canvas


def _pixels(frame: TrackedFrame, width: int, height: int) -> list[Rectangle]:
    # Boxes are clipped one image size beyond each side, so that OpenCV's integers do not overflow.
    low, high = (-width, -height) * 2, (2 * width, 2 * height) * 2
    pixels = np.clip(np.nan_to_num(frame.tracks.boxes), low, high).round().astype(np.int32)
    return [(left, top, right, bottom) for left, top, right, bottom in pixels.tolist()]


def _draw_box(
    canvas: Image, box: Rectangle, colour: Colour, style: Style, is_measured: bool, is_returned: bool
) -> None:
    left, top, right, bottom = box
    most = max(1, min(right - left, bottom - top) // _SMALLEST_LINE)
    line = min(style.line, most) if is_measured else 1
    _outline(canvas, box, colour, line)
    if is_returned:
        gap = 2 * line
        _outline(canvas, (left - gap, top - gap, right + gap, bottom + gap), colour, line)


def _outline(canvas: Image, box: Rectangle, colour: Colour, line: int) -> None:
    """Draw a rectangle whose lines are centred on the edges of a box.

    OpenCV's own outlines are a pixel or two wider than asked, depending on its version.
    """
    left, top, right, bottom = box
    half = line // 2
    left, top, right, bottom = left - half, top - half, right - half, bottom - half
    far_right, far_bottom = right + line, bottom + line
    for x1, y1, x2, y2 in (
        (left, top, far_right, top + line),
        (left, bottom, far_right, far_bottom),
        (left, top, left + line, far_bottom),
        (right, top, far_right, far_bottom),
    ):
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)


def _draw_trails(canvas: Image, state: AnnotationState, style: Style) -> None:
    trails = {identity: trail for identity, trail in state.trails.items() if len(trail) > 1}
    if not trails:
        return
    height, width = canvas.shape[:2]
    points = np.nan_to_num(np.array(list(chain.from_iterable(trails.values())))[:, 1:])
    pixels = np.clip(points, (-width, -height), (2 * width, 2 * height)).round().astype(np.int32)
    ends = np.cumsum([len(trail) for trail in trails.values()])
    for identity, line in zip(trails, np.split(pixels, ends[:-1]), strict=True):
        cv2.polylines(canvas, [line], False, colour_of(identity), max(1, style.line // 2), cv2.LINE_AA)


def _labels(frame: TrackedFrame, class_names: Mapping[int, str], config: AnnotationConfig) -> list[str]:
    tracks = frame.tracks
    labels = [f"#{identity}" for identity in frame.identities.tolist()]
    if len(class_names) > 1:
        names = [class_names.get(index, "?") for index in tracks.classes.tolist()]
        labels = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
    for row, is_measured in enumerate(tracks.measured.tolist()):
        if not is_measured:
            labels[row] += "?"
        elif config.show_confidence:
            labels[row] += f" {float(tracks.scores[row]):.2f}"
    return labels


def _put_labels(
    canvas: Image,
    boxes: list[Rectangle],
    identities: list[int],
    tags: list[Image],
    taken: list[Rectangle],
    style: Style,
) -> None:
    height, width = canvas.shape[:2]
    # In the order of identities, which is the same in every frame: labels then jump less.
    order = sorted(range(len(boxes)), key=lambda row: identities[row])
    sizes = [(tags[row].shape[1], tags[row].shape[0]) for row in order]
    places = place_labels([boxes[row] for row in order], sizes, width, height, taken)
    for row, place in zip(order, places, strict=True):
        if place is not None:
            _put_leader(canvas, boxes[row], place, colour_of(identities[row]), style)
    for row, place in zip(order, places, strict=True):
        if place is not None:
            _paste(canvas, tags[row], place)


def _put_leader(canvas: Image, box: Rectangle, place: Rectangle, colour: Colour, style: Style) -> None:
    """Join a label that was shifted away from its box to it."""
    start = min(max(box[0], place[0]), place[2]), min(max(box[1], place[1]), place[3])
    end = min(max(start[0], box[0]), box[2]), min(max(start[1], box[1]), box[3])
    if start != end:
        cv2.line(canvas, start, end, colour, max(1, style.line // 2))


def _paste(canvas: Image, tag: Image, place: Rectangle) -> None:
    left, top, right, bottom = place
    canvas[top:bottom, left:right] = tag


def _status(
    frame: TrackedFrame, class_names: Mapping[int, str], config: AnnotationConfig, style: Style
) -> Image | None:
    if config.status_corner == "none":
        return None
    is_person = [class_names.get(index) == _PERSON for index in frame.tracks.classes.tolist()]
    people, others = sum(is_person), len(is_person) - sum(is_person)
    if _PERSON not in class_names.values():
        count = f"{others} tracked"
    else:
        count = ("1 person" if people == 1 else f"{people} people") + (f", {others} others" if others else "")
    return render_tag(f"{format_time(frame.timestamp)}  {count}", _STATUS_COLOUR, style.text)


def _put_status(canvas: Image, tag: Image, config: AnnotationConfig) -> list[Rectangle]:
    """Put the time and the count into their corner, and return the place that they take."""
    height, width = canvas.shape[:2]
    h, w = tag.shape[:2]
    if w > width or h > height:
        return []
    x = 0 if config.status_corner.endswith("left") else width - w
    y = 0 if config.status_corner.startswith("top") else height - h
    _paste(canvas, tag, (x, y, x + w, y + h))
    return [(x, y, x + w, y + h)]


def format_time(seconds: float) -> str:
    """Return a time as minutes and whole seconds, with hours where there are any.

    >>> format_time(59.96), format_time(3661.5)
    ('0:59', '1:01:01')
    """
    minutes, rest = divmod(int(seconds + 1e-6), 60)  # a time of 3 s may be 2.9999999 in floating point
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

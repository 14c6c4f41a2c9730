"""Draws tracks into frames: a box, a label and a trail in the colour of the identity."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.config import VideoConfig
from motserve.errors import InvalidData
from motserve.types import Image, TrackedFrame
from motserve.video.source import open_video
from motserve.video.writer import VideoWriter

Colour = tuple[int, int, int]

# Successive hues a golden section apart differ clearly for any count. Identities that differ by 8, 13, 21 or 34 have
# similar hues; five alternating shades separate those.
_GOLDEN = 0.6180339887498949
_SHADES = ((0.85, 1.0), (0.5, 1.0), (0.95, 0.75), (0.35, 0.95), (0.7, 0.85))  # saturation, value
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_TRAIL_POINTS = 256  # limits a trail at high frame rates; more points than this are not distinguishable


@lru_cache(maxsize=4096)
def colour_of(identity: int) -> Colour:
    """Return the colour of an identity, the same in every video; successive identities have clearly different hues.

    >>> colour_of(1) == colour_of(1), colour_of(1) == colour_of(2)
    (True, False)

    Returns:
        Blue, green and red, each 0 to 255.
    """
    saturation, value = _SHADES[identity % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(identity * _GOLDEN % 1.0, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw(image: Image, frame: TrackedFrame, class_names: Mapping[int, str]) -> Image:
    """Draw the tracks of one frame into a copy of its image.

    Args:
        image: `(height, width, 3)` uint8 BGR; it is not changed.
        frame: The tracks; boxes may extend beyond the image.
        class_names: Names of class indices; labels name the class where there is more than one.

    Returns:
        The annotated copy.
    """
    return Annotator(class_names, trail_s=0).draw(image, frame)


class Annotator:
    """Draws the frames of one video in order and stores the recent positions of each identity.

    Args:
        class_names: Names of class indices; labels name the class where there is more than one.
        trail_s: Length in seconds of the trail of foot points; 0 draws none.
    """

    def __init__(self, class_names: Mapping[int, str], trail_s: float = 1.0) -> None:
        self._names = class_names
        self._trail_s = trail_s
        self._trails: dict[int, deque[tuple[float, int, int]]] = {}

    def draw(self, image: Image, frame: TrackedFrame) -> Image:
        """Draw the tracks of one frame into a copy of its image; see the function `draw`."""
        canvas: Image = image.copy()
        height, width = canvas.shape[:2]
        style = _Style.for_image(width, height)
        boxes = _pixels(frame.tracks.boxes, width, height)
        if self._trail_s > 0:
            self._draw_trails(canvas, frame, boxes, style)
        # Boxes with a higher bottom edge first, so that labels of close people stay on top.
        for row in np.argsort(boxes[:, 3], kind="stable").tolist():
            identity = int(frame.identities[row])
            colour = colour_of(identity)
            left, top, right, bottom = boxes[row].tolist()
            is_measured = bool(frame.tracks.measured[row])
            cv2.rectangle(canvas, (left, top), (right, bottom), colour, style.line if is_measured else 1)
            label = f"{identity} {float(frame.tracks.scores[row]):.2f}" if is_measured else f"{identity}?"
            if len(self._names) > 1:
                label = f"{self._names.get(int(frame.tracks.classes[row]), '?')} {label}"
            _put_label(canvas, label, left, top, colour, style)
        return canvas

    def _draw_trails(self, canvas: Image, frame: TrackedFrame, boxes: NDArray[np.int32], style: _Style) -> None:
        for identity, (left, _, right, bottom) in zip(frame.identities.tolist(), boxes.tolist(), strict=True):
            trail = self._trails.setdefault(identity, deque(maxlen=_TRAIL_POINTS))
            trail.append((frame.timestamp, (left + right) // 2, bottom))
        for identity, trail in list(self._trails.items()):
            while trail and trail[0][0] < frame.timestamp - self._trail_s:
                trail.popleft()
            if not trail:
                del self._trails[identity]
            elif len(trail) > 1:
                points = np.array([(x, y) for _, x, y in trail], np.int32)
                cv2.polylines(canvas, [points], False, colour_of(identity), style.line, cv2.LINE_AA)


def annotate_video(
    source: str | Path,
    tracked: Iterable[TrackedFrame],
    target: str | Path,
    config: VideoConfig,
    class_names: Mapping[int, str],
    *,
    trail_s: float = 1.0,
    progress: Callable[[int, int | None], None] | None = None,
    max_frames: int | None = None,
) -> int:
    """Write an annotated copy of a video, one frame in memory at a time. Sound is not copied.

    Args:
        source: Video file or image folder.
        tracked: Tracks with increasing frame indices. Frames without an entry are copied unchanged.
        target: Path of the MP4 file, which appears when it is complete.
        config: Limits of the input, quality of the output.
        class_names: Names of class indices.
        trail_s: Length in seconds of the trails; 0 draws none.
        progress: Called after each frame with the number of frames done and the expected total, if known.
        max_frames: Stop after this many frames, if later ones are known to be broken; None for all.

    Returns:
        Number of frames written.

    Raises:
        InvalidVideo: The source cannot be decoded.
        InvalidData: The tracks contain a frame that the video does not have, or are not in order.
    """
    annotator = Annotator(class_names, trail_s)
    remaining = iter(tracked)
    current = next(remaining, None)
    done = 0
    with open_video(source, config) as video:
        info = video.info
        with VideoWriter(target, info.width, info.height, config, info.rate_hz, info.pixel_aspect) as writer:
            for frame in islice(video.frames(), max_frames):
                image = frame.image
                if current is not None and current.index == frame.index:
                    image = annotator.draw(image, current)
                    current = next(remaining, None)
                if current is not None and current.index <= frame.index:
                    raise InvalidData(
                        f"tracks of frame {current.index} come after those of frame {frame.index}: not in order"
                    )
                writer.write(image, frame.timestamp)
                done += 1
                if progress is not None:
                    progress(done, info.frame_count)
            if current is not None:
                raise InvalidData(f"there are tracks for frame {current.index}, but {source} has {done} frames")
    return done


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes for an image: line width in pixels, font scale, thickness of letters."""

    line: int
    scale: float
    thickness: int

    @classmethod
    def for_image(cls, width: int, height: int) -> _Style:
        short = min(width, height)
        return cls(max(1, round(short / 360)), max(0.4, short / 1400), max(1, round(short / 700)))


def _pixels(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.int32]:
    # Boxes are clipped one image size beyond each side, so that OpenCV's integers do not overflow.
    low, high = (-width, -height) * 2, (2 * width, 2 * height) * 2
    pixels: NDArray[np.int32] = np.clip(np.nan_to_num(boxes), low, high).round().astype(np.int32)
    return pixels


def _put_label(canvas: Image, text: str, left: int, top: int, colour: Colour, style: _Style) -> None:
    height, width = canvas.shape[:2]
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, style.scale, style.thickness)
    pad = style.line + 1
    box_width, box_height = text_width + 2 * pad, text_height + baseline + pad
    x = min(max(left, 0), max(width - box_width, 0))
    y = min(max(top - box_height, 0), max(height - box_height, 0))
    cv2.rectangle(canvas, (x, y), (x + box_width, y + box_height), colour, cv2.FILLED)
    blue, green, red = colour
    ink = _BLACK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else _WHITE
    origin = (x + pad, y + text_height + pad // 2 + 1)
    cv2.putText(canvas, text, origin, _FONT, style.scale, ink, style.thickness, cv2.LINE_AA)

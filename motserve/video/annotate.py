"""Writes annotated copies of videos: boxes, labels and trails in the colours of the identities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from motserve.config import AnnotationConfig, VideoConfig
from motserve.errors import InvalidData
from motserve.types import Frame, Image, TrackedFrame, Tracks
from motserve.video.drawing import AnnotationState, draw
from motserve.video.source import open_video
from motserve.video.writer import VideoWriter


class Annotator:
    """Draws the frames of one video in order and stores what is shown of earlier ones.

    Args:
        class_names: Names of class indices; labels name the class where there is more than one.
        config: What is drawn and how large; the defaults if None.
    """

    def __init__(self, class_names: Mapping[int, str], config: AnnotationConfig | None = None) -> None:
        self._names = class_names
        self._config = config or AnnotationConfig()
        self._state = AnnotationState()

    def draw(self, image: Image, frame: TrackedFrame) -> Image:
        """Draw the tracks of one frame into a copy of its image; see the function `draw`."""
        self._state = self._state.advance(frame, self._config)
        return draw(image, frame, self._names, self._config, self._state)


def annotate_video(
    source: str | Path,
    tracked: Iterable[TrackedFrame],
    target: str | Path,
    config: VideoConfig,
    class_names: Mapping[int, str],
    *,
    progress: Callable[[int, int | None], None] | None = None,
    max_frames: int | None = None,
) -> int:
    """Write an annotated copy of a video, one frame in memory at a time. Sound is not copied.

    Args:
        source: Video file or image folder.
        tracked: Tracks with increasing frame indices. A frame without an entry has none.
        target: Path of the MP4 file, which appears when it is complete.
        config: Limits of the input, quality of the output, and what is drawn.
        class_names: Names of class indices.
        progress: Called after each frame with the number of frames done and the expected total, if known.
        max_frames: Stop after this many frames, if later ones are known to be broken; None for all.

    Returns:
        Number of frames written.

    Raises:
        InvalidVideo: The source cannot be decoded.
        InvalidData: The tracks contain a frame that the video does not have, or are not in order.
    """
    annotator = Annotator(class_names, config.annotation)
    remaining = iter(tracked)
    current = next(remaining, None)
    done = 0
    with open_video(source, config) as video:
        info = video.info
        with VideoWriter(target, info.width, info.height, config, info.rate_hz, info.pixel_aspect) as writer:
            for frame in islice(video.frames(), max_frames):
                tracks = _untracked(frame)
                if current is not None and current.index == frame.index:
                    tracks, current = current, next(remaining, None)
                if current is not None and current.index <= frame.index:
                    raise InvalidData(
                        f"tracks of frame {current.index} come after those of frame {frame.index}: not in order"
                    )
                writer.write(annotator.draw(frame.image, tracks), frame.timestamp)
                done += 1
                if progress is not None:
                    progress(done, info.frame_count)
            if current is not None:
                raise InvalidData(f"there are tracks for frame {current.index}, but {source} has {done} frames")
    return done


def _untracked(frame: Frame) -> TrackedFrame:
    return TrackedFrame(frame.index, frame.timestamp, Tracks.empty(), np.empty(0, np.int64))

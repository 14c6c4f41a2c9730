"""Notices that a picture moves for long and the detector finds nothing: it may not know such scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from motserve.config import PipelineConfig
from motserve.models.weights import SHIPPED
from motserve.types import Image

OnSilence = Callable[[int, float], None]
"""Called with the index of the frame and the seconds of movement without a detection."""

SILENCE: Final = (
    "people may be missed: the picture moves for %.0f s and the bundled detector finds nobody. It is small and knows "
    "few kinds of scenes; name others in detector.weights, see docs/weights.md"
)
"""Text of the warning."""

_SAMPLE_S: Final = 0.5
"""Seconds between two compared pictures; a person moves by a visible distance in this time."""

_SIZE: Final = (64, 36)
"""Width and height to which pictures are averaged, so that noise and compression disappear."""

_CHANGED: Final = 12  # grey levels of 255
_LEAST_SHARE: Final = 0.005
"""Share of changed cells from which the picture moves: about one distant person."""

_LONGEST_STEP_S: Final = 2.0  # more between two samples is a jump of the clock, not movement


def watch_bundled(
    detector: Mapping[str, Any] | None, config: PipelineConfig, on_silence: OnSilence
) -> MovementWatch | None:
    """Return a watch over a video whose detector is the bundled one; None for other detectors.

    Args:
        detector: Description of the detector's weights; None without a detector.
        config: `silence_s` is used; 0 for no watch.
        on_silence: Called once, when the picture has moved for so long without a detection.
    """
    if detector is None or detector["name"] not in SHIPPED or not config.silence_s:
        return None
    return MovementWatch(config.silence_s, on_silence)


class MovementWatch:
    """Sums the time in which the picture moves since the last detection.

    Args:
        silence_s: Seconds of movement without a detection after which `on_silence` is called, once per video.
        on_silence: The callback.
    """

    def __init__(self, silence_s: float, on_silence: OnSilence) -> None:
        self._silence_s, self._on_silence = silence_s, on_silence
        self._last: tuple[float, NDArray[np.int16]] | None = None
        self._moved_s = 0.0
        self._is_over = False

    def see(self, index: int, timestamp: float, image: Image, detections: int) -> None:
        """Take the next frame into account.

        Args:
            index: Index of the frame.
            timestamp: Its time in seconds.
            image: Its picture; it is looked at twice a second.
            detections: Number of detections.
        """
        if self._is_over:
            return
        if detections:
            self._moved_s = 0.0
        if self._last is not None and 0 <= timestamp - self._last[0] < _SAMPLE_S:
            return
        small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), _SIZE, interpolation=cv2.INTER_AREA)
        current = np.asarray(small, np.int16)
        if self._last is not None and not detections:
            step = timestamp - self._last[0]
            changed = float((np.abs(current - self._last[1]) >= _CHANGED).mean())
            if changed >= _LEAST_SHARE and 0 < step <= _LONGEST_STEP_S:
                self._moved_s += step
        self._last = timestamp, current
        if self._moved_s >= self._silence_s:
            self._is_over = True
            self._on_silence(index, self._moved_s)

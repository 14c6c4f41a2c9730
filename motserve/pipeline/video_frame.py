"""One tracked frame of a video with its picture, as Python users get it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from motserve.config import AnnotationConfig
from motserve.models.extras import import_package
from motserve.types import Image, TrackedFrame
from motserve.video import AnnotationState, draw

_PREVIEW_WIDTH: Final = 480  # pixels; about 20 kB as JPEG
_PREVIEW_QUALITY: Final = 80


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class VideoFrame(TrackedFrame):
    """Tracks and identities of one frame, and its picture.

    Attributes:
        image: `(height, width, 3)` uint8 BGR, upright. It is the decoded picture itself and lives as long as the
            frame: a list of all frames of a long video does not fit in memory.
        class_names: Name of each class index of the detector.
        annotation: What `plot` shows.
        state: Trails, and the people who returned lately.
    """

    image: Image
    class_names: Mapping[int, str]
    annotation: AnnotationConfig
    state: AnnotationState

    def __repr__(self) -> str:
        return f"<VideoFrame {self.index} at {self.timestamp:.3f} s: {self._count()}>"

    def plot(self) -> Image:
        """Return a copy of the picture as in the annotated video, uint8 BGR like `image`; see `video.annotation`."""
        return draw(self.image, self, self.class_names, self.annotation, self.state)

    def to_supervision(self) -> Any:
        """Return the frame as `supervision.Detections`; `tracker_id` is the identity.

        `data` has `class_name` and `track_id`.

        Raises:
            InvalidConfig: The package supervision is not installed.
        """
        supervision = import_package("supervision", "to_supervision")
        names = [self.class_names.get(index, str(index)) for index in self.classes.tolist()]
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.classes.copy(),
            tracker_id=self.identities.copy(),
            data={"class_name": np.array(names, str), "track_id": self.track_ids.copy()},
        )

    def _repr_html_(self) -> str:
        """Show the picture with boxes, scaled down, in a notebook."""
        picture: Any = self.plot()
        height, width = picture.shape[:2]
        if width > _PREVIEW_WIDTH:
            size = _PREVIEW_WIDTH, max(1, round(height * _PREVIEW_WIDTH / width))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _PREVIEW_QUALITY])[1].tobytes()
        return (
            f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
            f"<figcaption>frame {self.index}, {self.timestamp:.3f} s, {self._count()}</figcaption></figure>"
        )

    def _count(self) -> str:
        count = len(self.identities)
        return f"{count} {'identity' if count == 1 else 'identities'}"

"""The arrays that travel between the stages: frames in, detections, tracks out.

Every type is a frozen struct of arrays; a row of one array belongs to the same row of the others. Boxes are
``xyxy`` in pixels of the decoded frame, origin at the top left corner, and may reach beyond the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""A picture, shape ``(height, width, 3)``, uint8, channels in BGR order."""

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture of a video.

    Attributes:
        index: Number of the frame in the video, from 0, counted in display order; a folder of pictures may lack some.
        timestamp: Presentation time in seconds from the first frame; strictly increasing.
        image: The picture, `(height, width, 3)` uint8 BGR, upright (rotation metadata applied).
    """

    index: int
    timestamp: float
    image: Image


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector saw in one frame.

    Attributes:
        boxes: `(n, 4)` float32, xyxy in pixels.
        scores: `(n,)` float32, confidence in [0, 1].
        classes: `(n,)` int64, class index of the detector.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray

    def __post_init__(self) -> None:
        """Refuse arrays whose shapes do not belong together."""
        n = len(self.boxes)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.classes.shape != (n,):
            raise ValueError(
                f"detections need boxes (n, 4), scores (n,) and classes (n,); got {self.boxes.shape}, "
                f"{self.scores.shape} and {self.classes.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """Return detections without a row: a frame in which nobody was seen."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Cues:
    """What a tracker can be told about a frame besides its detections. Trackers without a use for one ignore it.

    Attributes:
        camera: `(2, 3)` float64, affine map from pixels of the latest frame to pixels of this one; None where the
            camera's motion is not known or not asked for.
        rows: `(k,)` int64, rows of the frame's `Detections` whose appearance is known, each once.
        embeddings: `(k, d)` float32, unit vectors of those.
    """

    camera: NDArray[np.float64] | None = None
    rows: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    embeddings: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))


MAX_COORDINATE: Final = 1e6
"""Edges of boxes in files lie at most so many pixels from the origin. No picture is as large, float32 still tells
sixteenths of a pixel apart there, and the motion model has room to predict beyond."""

NO_DETECTION: Final = -1
"""Stands for the row of a detection where there was none: the box is predicted."""

INTERPOLATED: Final = -3
"""Stands for the row of a detection where there was none: the box lies between those before and after."""

SOME_DETECTION: Final = -2
"""Stands for the row of a detection that is not known any more, because the tracks come from a file."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """The confirmed tracks of one frame: those that were seen, and lost ones that were asked for.

    Attributes:
        ids: `(n,)` int64, the tracker's own track IDs, from 1, unique in a frame and never reused.
        boxes: `(n, 4)` float32, xyxy in pixels, the tracker's estimate.
        scores: `(n,)` float32, confidence of the detection behind the row, in [0, 1]; 0 where there is none.
        classes: `(n,)` int64, class index of the detector.
        detections: `(n,)` int64, row of the frame's `Detections` that the track was matched to; `NO_DETECTION` where
            the box is predicted, `INTERPOLATED` where it was filled in, `SOME_DETECTION` where the row is not known.
    """

    ids: IntArray
    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    detections: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: IntArray) -> Tracks:
        """Return some of the rows."""
        return Tracks(self.ids[rows], self.boxes[rows], self.scores[rows], self.classes[rows], self.detections[rows])

    @property
    def measured(self) -> BoolArray:
        """`(n,)` bool, which boxes stand on a detection; the others are predicted or interpolated."""
        return np.asarray((self.detections >= 0) | (self.detections == SOME_DETECTION))

    @classmethod
    def empty(cls) -> Tracks:
        """Return tracks without a row."""
        ints = np.empty(0, np.int64)
        return cls(ints, np.empty((0, 4), np.float32), np.empty(0, np.float32), ints, ints)


@dataclass(frozen=True, slots=True)
class Link:
    """Why a track has the identity of somebody who had been away.

    Attributes:
        track: The track that begins.
        identity: The identity it was given.
        previous_track: The track that held the identity before.
        distance: Cosine distance between the looks of both, in [0, 2].
        gap_s: Seconds between the last sight of the one and the first of the other.
        moved: Distance between both places in body heights.
    """

    track: int
    identity: int
    previous_track: int
    distance: float
    gap_s: float
    moved: float


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """The answer for one frame.

    Attributes:
        index: Number of the frame in the video, from 0, as in `Frame`.
        timestamp: Presentation time in seconds.
        tracks: The tracks seen in this frame.
        identities: `(n,)` int64, the lasting identity of each track, from 1, unique in a frame.
        links: Why tracks that begin in this frame have the identity of somebody who had been away.
    """

    index: int
    timestamp: float
    tracks: Tracks
    identities: IntArray
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddedCrops:
    """The people of one frame whose embeddings were computed to tell who they are, crops that tell nothing left out.

    Attributes:
        timestamp: Presentation time in seconds.
        identities: `(k,)` int64, lasting identities, from 1, each once.
        boxes: `(k, 4)` float32, xyxy in pixels.
        scores: `(k,)` float32, confidence in [0, 1].
        embeddings: `(k, d)` float32, unit vectors.
        crops: `(k, height, width, 3)` uint8 BGR, what was embedded.
    """

    timestamp: float
    identities: IntArray
    boxes: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    crops: NDArray[np.uint8]

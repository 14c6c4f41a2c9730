"""Arrays passed between the stages: frames, detections, tracks.

Each type is a frozen struct of arrays; row `i` of each array describes the same object. Boxes are
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
    """Detections of one frame. Lists and arrays of other types of numbers are converted.

    Attributes:
        boxes: `(n, 4)` float32, xyxy in pixels.
        scores: `(n,)` float32, confidence in [0, 1].
        classes: `(n,)` int64, class index of the detector.

    Raises:
        ValueError: A column is not made of numbers, a class is not a whole number, or the shapes do not match.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray

    def __post_init__(self) -> None:
        """Convert the columns, and refuse those whose shapes do not match."""
        for name, kind in (("boxes", np.float32), ("scores", np.float32), ("classes", np.int64)):
            values = getattr(self, name)
            if not (isinstance(values, np.ndarray) and values.dtype == kind):
                object.__setattr__(self, name, _converted(name, values, kind))
        if not self.boxes.size:
            object.__setattr__(self, "boxes", self.boxes.reshape(-1, 4))
        n = self.boxes.shape[0] if self.boxes.ndim else 0
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.classes.shape != (n,):
            raise ValueError(
                f"detections need boxes (n, 4), scores (n,) and classes (n,); got {self.boxes.shape}, "
                f"{self.scores.shape} and {self.classes.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """Return zero detections."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


def _converted(name: str, values: object, kind: type[np.float32] | type[np.int64]) -> NDArray[np.generic]:
    """Return a column of `Detections` as an array of its type."""
    try:
        numbers = np.asarray(values)
        if numbers.size and numbers.dtype.kind not in "buif":
            raise ValueError(f"they are {numbers.dtype}")
        with np.errstate(all="ignore"):
            converted = numbers.astype(kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} of detections must be an array or a list of numbers: {error}") from error
    if kind is np.int64 and not np.array_equal(converted, numbers):
        raise ValueError("classes of detections must be whole numbers")
    return converted


@dataclass(frozen=True, slots=True)
class Cues:
    """Optional inputs of a tracker besides the detections of a frame. Trackers ignore those that they do not use.

    Attributes:
        camera: `(2, 3)` float64, affine map from pixels of the previous frame to pixels of this one; None where the
            camera motion is unknown or not used.
        rows: `(k,)` int64, rows of the frame's `Detections` that have an embedding, each once.
        embeddings: `(k, d)` float32, unit vectors of those rows.
    """

    camera: NDArray[np.float64] | None = None
    rows: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    embeddings: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))


MAX_COORDINATE: Final = 1e6
"""Largest distance of a box edge in files from the origin, in pixels. No frame is as large, float32 still resolves
sixteenths of a pixel there, and the motion model has room to predict beyond."""

NO_DETECTION: Final = -1
"""Row of a track without a detection whose box is predicted."""

INTERPOLATED: Final = -3
"""Row of a track without a detection whose box is interpolated."""

SOME_DETECTION: Final = -2
"""Row of a track whose detection is unknown, because the tracks come from a file."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """The confirmed tracks of one frame: matched ones, and lost ones if the tracker is set to report them.

    Attributes:
        ids: `(n,)` int64, track IDs of the tracker, from 1, unique in a frame and never reused.
        boxes: `(n, 4)` float32, xyxy in pixels, the tracker's estimate.
        scores: `(n,)` float32, confidence of the matched detection in [0, 1]; 0 where there is none.
        classes: `(n,)` int64, class index of the detector.
        detections: `(n,)` int64, row of the frame's `Detections` that the track was matched to; `NO_DETECTION` where
            the box is predicted, `INTERPOLATED` where it is interpolated, `SOME_DETECTION` where the row is unknown.
    """

    ids: IntArray
    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    detections: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: IntArray) -> Tracks:
        """Return some of the rows."""
        return Tracks(self.ids[rows], self.boxes[rows], self.scores[rows], self.classes[rows], self.detections[rows])

    @property
    def measured(self) -> BoolArray:
        """`(n,)` bool, boxes with a detection; the others are predicted or interpolated."""
        return np.asarray((self.detections >= 0) | (self.detections == SOME_DETECTION))

    @classmethod
    def empty(cls) -> Tracks:
        """Return zero tracks."""
        ints = np.empty(0, np.int64)
        return cls(ints, np.empty((0, 4), np.float32), np.empty(0, np.float32), ints, ints)


@dataclass(frozen=True, slots=True)
class Link:
    """Why a new track has the identity of a returning person.

    Attributes:
        track: The new track.
        identity: The identity that it got.
        previous_track: The track that held the identity before.
        distance: Cosine distance between the embeddings of both tracks, in [0, 2].
        gap_s: Seconds between the last detection of the previous track and the first of the new one.
        moved: Distance between the boxes of these two detections in body heights.
    """

    track: int
    identity: int
    previous_track: int
    distance: float
    gap_s: float
    moved: float


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """Tracks and identities of one frame.

    Attributes:
        index: Number of the frame in the video, from 0, as in `Frame`.
        timestamp: Presentation time in seconds.
        tracks: The tracks of this frame.
        identities: `(n,)` int64, the identity of each track, from 1, unique in a frame; it survives absences.
        links: Links of tracks that begin in this frame and got the identity of a returning person.
    """

    index: int
    timestamp: float
    tracks: Tracks
    identities: IntArray
    links: tuple[Link, ...] = ()

    @property
    def boxes(self) -> FloatArray:
        """`(n, 4)` float32, xyxy in pixels, of each track."""
        return self.tracks.boxes

    @property
    def track_ids(self) -> IntArray:
        """`(n,)` int64, track ID of each track; a returning person has a new one."""
        return self.tracks.ids

    @property
    def scores(self) -> FloatArray:
        """`(n,)` float32, confidence of each track's detection in [0, 1]; 0 where there is none."""
        return self.tracks.scores

    @property
    def classes(self) -> IntArray:
        """`(n,)` int64, class index of each track."""
        return self.tracks.classes


@dataclass(frozen=True, slots=True)
class EmbeddedCrops:
    """Reliable crops of one frame that were embedded to decide identities.

    Attributes:
        timestamp: Presentation time in seconds.
        identities: `(k,)` int64, identities, from 1, each once.
        boxes: `(k, 4)` float32, xyxy in pixels.
        scores: `(k,)` float32, confidence in [0, 1].
        embeddings: `(k, d)` float32, unit vectors.
        crops: `(k, height, width, 3)` uint8 BGR, the embedded crops.
    """

    timestamp: float
    identities: IntArray
    boxes: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    crops: NDArray[np.uint8]

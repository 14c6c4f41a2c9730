"""The three small interfaces that everything else is written against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from motserve.types import Cues, Detections, FloatArray, Image, Tracks

NO_CUES: Final = Cues()
"""Nothing is known of a frame but its detections."""


class DetectorBase(ABC):
    """Finds objects in pictures. Holds no state between calls."""

    @property
    @abstractmethod
    def class_names(self) -> Mapping[int, str]:
        """Name of each class index that `detect` may return."""

    @property
    def parameters(self) -> int | None:
        """Number of trained values in the network; None where an exported format does not tell."""
        return None

    @abstractmethod
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects in a batch.

        The answer for a picture does not depend on what else is in the batch.

        Args:
            images: Pictures `(height, width, 3)` uint8 BGR; sizes may differ.

        Returns:
            One `Detections` for each picture, in the order given, best score first.
        """


class ReIDBase(ABC):
    """Turns crops of people into embeddings. Holds no state between calls."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def parameters(self) -> int | None:
        """Number of trained values in the network; None where an exported format does not tell."""
        return None

    @abstractmethod
    def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed a batch of crops.

        Args:
            crops: `(n, height, width, 3)` uint8 BGR, one person each.

        Returns:
            `(n, dimension)` float32, each row of unit length; cosine distance is `1 - a @ b`.
        """


class TrackerBase(ABC):
    """Follows objects through the frames of one video. One object serves one video."""

    def wants(self, detections: Detections) -> NDArray[np.int64]:
        """Return the rows of a frame's detections whose embeddings `update` will use.

        Args:
            detections: What was seen in the frame.

        Returns:
            `(k,)` int64, rising; none for trackers that go by motion alone.
        """
        return np.empty(0, np.int64)

    @abstractmethod
    def update(self, detections: Detections, timestamp: float, cues: Cues = NO_CUES) -> Tracks:
        """Advance by one frame. An empty frame is a frame: call this for it too.

        Args:
            detections: What was seen in the frame, low scores included.
            timestamp: Presentation time in seconds, greater than that of the frame before.
            cues: What else is known of the frame.

        Returns:
            The confirmed tracks that were matched in this frame.

        Raises:
            ValueError: The timestamp does not increase or the detections are not valid.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; `load_state_dict` of it gives the same future."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one that `state_dict` returned."""

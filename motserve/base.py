"""The three small interfaces that everything else is written against, and the state that their objects save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

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


State: TypeAlias = dict[str, NDArray[Any]]
"""Arrays by name; parts of parts are told apart by a `/`."""


def merge_states(**parts: Mapping[str, NDArray[Any]]) -> State:
    """Put the states of parts together, each below its name.

    >>> merge_states(tracker={"ids": np.array([1])})
    {'tracker/ids': array([1])}
    """
    return {f"{part}/{name}": values for part, state in parts.items() for name, values in state.items()}


def substate(state: Mapping[str, NDArray[Any]], name: str) -> State:
    """Return the state of one part; nothing where there is none of that name.

    >>> substate({"tracker/ids": np.array([1]), "now": np.array(0.5)}, "tracker")
    {'ids': array([1])}
    """
    start = f"{name}/"
    return {key.removeprefix(start): values for key, values in state.items() if key.startswith(start)}


def load_array(state: Mapping[str, NDArray[Any]], name: str, dtype: type[np.generic], *shape: int) -> NDArray[Any]:
    """Return a copy of one array.

    Args:
        state: The arrays.
        name: Which one.
        dtype: Its type.
        shape: Its shape; -1 for any length.

    Raises:
        ValueError: There is none, or of another type or shape.
    """
    values = state.get(name)
    if values is None:
        raise ValueError(f"the state has no {name!r}")
    fits = len(shape) == values.ndim and all(want in (-1, have) for want, have in zip(shape, values.shape, strict=True))
    if values.dtype != dtype or not fits:
        raise ValueError(f"the state's {name!r} is {values.dtype} {values.shape}; expected {dtype.__name__} {shape}")
    return np.array(values)


def stacked(arrays: Sequence[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    """Put arrays one behind the other; `empty` where there are none."""
    return np.concatenate(arrays) if arrays else empty


def cut(values: NDArray[Any], counts: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Undo `stacked`.

    Args:
        values: The rows of all.
        counts: `(n,)` how many each has.

    Raises:
        ValueError: There are not as many rows as are counted.

    >>> [rows.tolist() for rows in cut(np.array([5, 6, 7]), np.array([1, 0, 2]))]
    [[5], [], [6, 7]]
    """
    if (counts < 0).any() or counts.sum() != len(values):
        raise ValueError(f"the state counts {counts.sum()} rows and has {len(values)}")
    return np.split(values, np.cumsum(counts)[:-1]) if len(counts) else []

"""The interfaces of detectors, embedders and trackers, and helpers for the state that they save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from motserve.types import Cues, Detections, FloatArray, Image, Tracks

NO_CUES: Final = Cues()
"""No inputs besides the detections."""


class DetectorBase(ABC):
    """Detects objects in images. Holds no state between calls."""

    @property
    @abstractmethod
    def class_names(self) -> Mapping[int, str]:
        """Name of each class index that `detect` may return."""

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters of the network; None where an exported format does not give it."""
        return None

    @property
    def backend(self) -> str:
        """Library that runs the network, such as `torch`; empty where an exported format does not give it."""
        return "torch"

    @abstractmethod
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects in a batch.

        The detections of an image do not depend on the other images of the batch.

        Args:
            images: Images `(height, width, 3)` uint8 BGR; sizes may differ.

        Returns:
            One `Detections` for each image, in the given order, highest score first.
        """


class ReIDBase(ABC):
    """Computes embeddings of crops of people. Holds no state between calls."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters of the network; None where an exported format does not give it."""
        return None

    @property
    def backend(self) -> str:
        """Library that runs the network, such as `torch`; empty where an exported format does not give it."""
        return "torch"

    @abstractmethod
    def embed(self, crops: NDArray[np.uint8]) -> FloatArray:
        """Embed a batch of crops.

        Args:
            crops: `(n, height, width, 3)` uint8 BGR, one person each.

        Returns:
            `(n, dimension)` float32, each row of unit length; cosine distance is `1 - a @ b`.
        """


class TrackerBase(ABC):
    """Tracks objects through the frames of one video. Each video needs its own tracker object."""

    def rows_to_embed(self, detections: Detections) -> NDArray[np.int64]:
        """Return the rows of a frame's detections whose embeddings `update` will use.

        Args:
            detections: Detections of the frame.

        Returns:
            `(k,)` int64, increasing; empty for trackers that use motion only.
        """
        return np.empty(0, np.int64)

    @abstractmethod
    def update(self, detections: Detections, timestamp: float, cues: Cues = NO_CUES) -> Tracks:
        """Advance by one frame. Call it for frames without detections too.

        Args:
            detections: Detections of the frame, including low scores.
            timestamp: Presentation time in seconds, greater than that of the previous frame.
            cues: Optional other inputs of the frame.

        Returns:
            The confirmed tracks that were matched in this frame.

        Raises:
            ValueError: The timestamp does not increase or the detections are not valid.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return a copy of the whole state; a tracker that loads it continues identically."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the state by one returned by `state_dict`."""


State: TypeAlias = dict[str, NDArray[Any]]
"""Arrays by name; `/` separates the names of nested states."""


def merge_states(**states: Mapping[str, NDArray[Any]]) -> State:
    """Merge states into one, each below its name.

    >>> merge_states(tracker={"ids": np.array([1])})
    {'tracker/ids': array([1])}
    """
    return {f"{above}/{name}": values for above, state in states.items() for name, values in state.items()}


def substate(state: Mapping[str, NDArray[Any]], name: str) -> State:
    """Return the state below a name; empty if there is none.

    >>> substate({"tracker/ids": np.array([1]), "now": np.array(0.5)}, "tracker")
    {'ids': array([1])}
    """
    start = f"{name}/"
    return {key.removeprefix(start): values for key, values in state.items() if key.startswith(start)}


def load_array(state: Mapping[str, NDArray[Any]], name: str, dtype: type[np.generic], *shape: int) -> NDArray[Any]:
    """Return a copy of one array.

    Args:
        state: The arrays.
        name: Its name.
        dtype: Its type.
        shape: Its shape; -1 for any length.

    Raises:
        ValueError: The array is missing, or has another type or shape.
    """
    values = state.get(name)
    if values is None:
        raise ValueError(f"the state has no {name!r}")
    fits = len(shape) == values.ndim and all(
        expected in (-1, length) for expected, length in zip(shape, values.shape, strict=True)
    )
    if values.dtype != dtype or not fits:
        raise ValueError(f"the state's {name!r} is {values.dtype} {values.shape}; expected {dtype.__name__} {shape}")
    return np.array(values)


def concatenate_rows(arrays: Sequence[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    """Concatenate arrays along their rows; return `empty` if there are none."""
    return np.concatenate(arrays) if arrays else empty


def split_rows(values: NDArray[Any], counts: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Split the rows that `concatenate_rows` returned into arrays again.

    Args:
        values: The rows of all arrays.
        counts: `(n,)` int64, number of rows of each array.

    Raises:
        ValueError: The counts do not add up to the number of rows.

    >>> [rows.tolist() for rows in split_rows(np.array([5, 6, 7]), np.array([1, 0, 2]))]
    [[5], [], [6, 7]]
    """
    if (counts < 0).any() or counts.sum() != len(values):
        raise ValueError(f"the state counts {counts.sum()} rows and has {len(values)}")
    return np.split(values, np.cumsum(counts)[:-1]) if len(counts) else []

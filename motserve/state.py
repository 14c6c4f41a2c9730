"""What an object remembers, as arrays by name: what a checkpoint is made of. It is data alone and names no classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

State: TypeAlias = dict[str, NDArray[Any]]
"""Arrays by name; parts of parts are told apart by a `/`."""


def joined(**parts: Mapping[str, NDArray[Any]]) -> State:
    """Put the states of parts together, each below its name.

    >>> joined(tracker={"ids": np.array([1])})
    {'tracker/ids': array([1])}
    """
    return {f"{part}/{name}": values for part, state in parts.items() for name, values in state.items()}


def part(state: Mapping[str, NDArray[Any]], name: str) -> State:
    """Return the state of one part; nothing where there is none of that name.

    >>> part({"tracker/ids": np.array([1]), "now": np.array(0.5)}, "tracker")
    {'ids': array([1])}
    """
    start = f"{name}/"
    return {key.removeprefix(start): values for key, values in state.items() if key.startswith(start)}


def take(state: Mapping[str, NDArray[Any]], name: str, dtype: type[np.generic], *shape: int) -> NDArray[Any]:
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

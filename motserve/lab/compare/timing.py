"""Measures the speed of a network on this machine, alone and in its configured batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of a network, including its own preprocessing, without decoding and cropping.

    Attributes:
        median_ms: Median time of a batch of one item, in milliseconds.
        per_second: Items per second in full batches; the last batch may be smaller.
    """

    median_ms: float
    per_second: float


def measure_speed(
    run: Callable[[Any], object],
    items: Sequence[Any] | NDArray[Any],
    batch: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time a network over items, first one by one, then in batches; an untimed pass of each kind warms up.

    Args:
        run: Processes a batch, a slice of the items.
        items: Items to process, at least one.
        batch: Items in a full batch.
        clock: Monotonic clock in seconds.
    """
    run(items[:1])
    single = []
    for index in range(len(items)):
        start = clock()
        run(items[index : index + 1])
        single.append(clock() - start)
    run(items[:batch])
    start = clock()
    for first in range(0, len(items), batch):
        run(items[first : first + batch])
    return Speed(float(np.median(single)) * 1e3, len(items) / (clock() - start))

"""How fast a network is on this machine, in the batches that it will be used with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of a network, its own preparation of the pictures included, decoding and cropping not.

    Attributes:
        median_ms: Median time of a single item in milliseconds, alone in its batch.
        per_second: Items per second in batches, the last of which may not be full.
    """

    median_ms: float
    per_second: float


def measure_speed(
    run: Callable[[Any], object],
    items: Sequence[Any] | NDArray[Any],
    batch: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time a network over items, first one by one, then in batches; the first pass of each kind warms up.

    Args:
        run: Processes a batch, a slice of the items.
        items: What is processed, at least one.
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

"""How long a tracker takes for a frame, beside Ultralytics' ByteTrack on the same detections in the same run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from motserve.benchmark.peers import Contender, Own, Ultralytics, equal_thresholds
from motserve.benchmark.streams import crowd_stream
from motserve.config import ByteTrackConfig, CascadeConfig, TrackerConfig
from motserve.tracking import build_tracker
from motserve.types import Detections

_RATE_HZ = 30.0  # of the made-up video; Ultralytics counts frames and knows no other
_WARM_UP_FRAMES = 30  # a second: until then tracks are being born, and caches and allocator are cold


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """Times of one tracker at one size of crowd.

    Attributes:
        tracker: Name of the tracker.
        people: People in the picture.
        median_ms: Median time of an update in milliseconds.
        p95_ms: 95th percentile of it in milliseconds.
    """

    tracker: str
    people: int
    median_ms: float
    p95_ms: float


def run(
    people: Sequence[int],
    frames: int,
    seed: int = 0,
    config: TrackerConfig | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[BenchmarkRow]:
    """Time the configured tracker and that of Ultralytics with the same thresholds.

    Both get each frame in turn, so that what else the machine does hits both. Only the update is timed; making the
    input is not. The first second of the stream warms up and does not count. The garbage collector rests.

    Args:
        people: Sizes of crowd to measure, each at least 1.
        frames: Frames measured at each size, at least 1.
        seed: Seed of the made-up streams.
        config: Tracker to measure; None stands for the defaults.
        clock: Monotonic clock in seconds.

    Returns:
        Two rows for each size, the configured tracker first.

    Raises:
        ValueError: `frames` or a size of crowd is below 1.
    """
    if frames < 1 or any(size < 1 for size in people):
        raise ValueError(f"a benchmark needs at least one frame and one person, got {frames} and {list(people)}")
    config = config or ByteTrackConfig()
    rows = []
    for size in people:
        stream = crowd_stream(size, _WARM_UP_FRAMES + frames, seed)
        contenders = {
            config.name: Own(build_tracker(config, _RATE_HZ)),
            **_peer(config),
        }
        for name, times in _time(contenders, stream, clock).items():
            milliseconds = np.array(times[_WARM_UP_FRAMES:]) * 1e3
            median, p95 = np.percentile(milliseconds, [50, 95])
            rows.append(BenchmarkRow(name, size, float(median), float(p95)))
    return rows


def _peer(config: TrackerConfig) -> dict[str, Contender]:
    """Return Ultralytics' tracker of the same name with the same thresholds, or its ByteTrack where it has none."""
    if isinstance(config, CascadeConfig):
        return {f"ultralytics_{config.name}": Ultralytics(config.name, **equal_thresholds(config, _RATE_HZ))}
    return {"ultralytics_bytetrack": Ultralytics("bytetrack")}


def _time(
    contenders: Mapping[str, Contender], stream: Sequence[Detections], clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of each update by name."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with _no_garbage_collection():
        for index, detections in enumerate(stream):
            for name, contender in contenders.items():
                step = contender.prepare(detections, index / _RATE_HZ)
                start = clock()
                step()
                times[name].append(clock() - start)
    return times


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect once, then keep the collector from landing in somebody's measurement."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

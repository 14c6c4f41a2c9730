"""Time per frame of a tracker, beside those of other packages on the same detections in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motserve.config import ByteTrackConfig, CascadeConfig, TrackerConfig
from motserve.lab.benchmark.peers import Contender, MakePeer, Own, Ultralytics, equal_thresholds
from motserve.lab.benchmark.streams import crowd_stream
from motserve.lab.benchmark.timing import no_garbage_collection
from motserve.tracking import build_tracker
from motserve.types import Detections

_RATE_HZ = 30.0  # of the synthetic video; Ultralytics counts frames and assumes this rate
_WARM_UP_FRAMES = 30  # one second, in which the first tracks are confirmed and caches fill
_TURN_FRAMES = 30  # long enough to run from warm caches, short enough that load changes affect all trackers alike


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """Times of one tracker at one crowd size.

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
    peers: Mapping[str, MakePeer] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[BenchmarkRow]:
    """Time the configured tracker, that of Ultralytics with the same thresholds, and other peers.

    The trackers take turns of one second each, so that other load on the machine affects all of them alike, and no
    tracker starts every frame with caches that another has filled. Only the update is timed; preparing the input is
    not. The first second of the stream is warm-up and does not count. The garbage collector is off.

    Args:
        people: Crowd sizes to measure, each at least 1.
        frames: Frames measured at each size, at least 1.
        seed: Seed of the synthetic streams.
        config: Tracker to measure; None for the default one.
        peers: A function that builds each other tracker, by name.
        clock: Monotonic clock in seconds.

    Returns:
        Rows for each crowd size, the configured tracker first, Ultralytics' second.

    Raises:
        ValueError: `frames` or a crowd size is below 1.
    """
    if frames < 1 or any(size < 1 for size in people):
        raise ValueError(f"a benchmark needs at least one frame and one person, got {frames} and {list(people)}")
    config = config or ByteTrackConfig()
    rows = []
    for size in people:
        stream = crowd_stream(size, _WARM_UP_FRAMES + frames, seed)
        contenders: dict[str, Contender] = {
            config.name: Own(build_tracker(config, _RATE_HZ)),
            baseline(config): _baseline(config),
        }
        contenders.update({name: make(_RATE_HZ) for name, make in (peers or {}).items()})
        for name, times in _time(contenders, stream, clock).items():
            milliseconds = np.array(times[_WARM_UP_FRAMES:]) * 1e3
            median, p95 = np.percentile(milliseconds, [50, 95])
            rows.append(BenchmarkRow(name, size, float(median), float(p95)))
    return rows


def baseline(config: TrackerConfig) -> str:
    """Return the name of the peer that a configured tracker is measured against."""
    return f"ultralytics-{config.name}-equal" if isinstance(config, CascadeConfig) else "ultralytics-bytetrack"


def _baseline(config: TrackerConfig) -> Ultralytics:
    """Return Ultralytics' tracker of the same name with the same thresholds, or its ByteTrack where it has none."""
    if isinstance(config, CascadeConfig):
        return Ultralytics(config.name, **equal_thresholds(config, _RATE_HZ))
    return Ultralytics("bytetrack")


def _time(
    contenders: Mapping[str, Contender], stream: Sequence[Detections], clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of each update by name."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with no_garbage_collection():
        for first in range(0, len(stream), _TURN_FRAMES):
            for name, contender in contenders.items():
                for index, detections in enumerate(stream[first : first + _TURN_FRAMES], first):
                    step = contender.prepare(detections, index / _RATE_HZ)
                    start = clock()
                    step()
                    times[name].append(clock() - start)
    return times

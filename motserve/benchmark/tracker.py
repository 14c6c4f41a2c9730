"""How long a tracker takes for a frame, beside Ultralytics' ByteTrack on the same detections in the same run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from motserve.benchmark.streams import crowd_stream
from motserve.config import TrackerConfig
from motserve.detection.ultralytics_setup import import_ultralytics
from motserve.tracking import build_tracker
from motserve.types import Detections

Step = Callable[[], object]
Prepare = Callable[[Detections, int], Step]

_RATE_HZ = 30.0  # of the made-up video; Ultralytics counts frames and knows no other
_SHAPE = (1080, 1920)  # of the frames the made-up detections stand for
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
    """Time the configured tracker and Ultralytics' ByteTrack with the same thresholds.

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
    config = config or TrackerConfig()
    rows = []
    for size in people:
        stream = crowd_stream(size, _WARM_UP_FRAMES + frames, seed)
        contenders = {config.name: _own(config), f"ultralytics_{config.name}": _ultralytics(config)}
        for name, times in _time(contenders, stream, clock).items():
            milliseconds = np.array(times[_WARM_UP_FRAMES:]) * 1e3
            median, p95 = np.percentile(milliseconds, [50, 95])
            rows.append(BenchmarkRow(name, size, float(median), float(p95)))
    return rows


def _time(
    contenders: dict[str, Prepare], stream: Sequence[Detections], clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of each update by name."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with _no_garbage_collection():
        for index, detections in enumerate(stream):
            for name, prepare in contenders.items():
                step = prepare(detections, index)
                start = clock()
                step()
                times[name].append(clock() - start)
    return times


def _own(config: TrackerConfig) -> Prepare:
    tracker = build_tracker(config, _RATE_HZ)
    return lambda detections, index: lambda: tracker.update(detections, index / _RATE_HZ)


def _ultralytics(config: TrackerConfig) -> Prepare:
    # Imported here because it brings torch, which nothing else in this module needs.
    import_ultralytics()
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.byte_tracker import BYTETracker

    tracker = BYTETracker(  # type: ignore[no-untyped-call]
        SimpleNamespace(
            track_high_thresh=config.high_confidence,
            track_low_thresh=config.low_confidence,
            new_track_thresh=config.new_track_confidence,
            track_buffer=round(config.lost_buffer_s * _RATE_HZ),
            match_thresh=config.match_distance,
            fuse_score=config.fuse_score,
        )
    )

    def prepare(detections: Detections, _: int) -> Step:
        columns = [detections.boxes, detections.scores[:, None], detections.classes[:, None].astype(np.float32)]
        boxes = Boxes(np.concatenate(columns, axis=1), _SHAPE)
        return lambda: tracker.update(boxes)

    return prepare


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

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest

from motserve.lab.benchmark.streams import StreamSettings, crowd_stream
from motserve.lab.benchmark.tracker import run


def test_times_come_from_the_clock() -> None:
    # Each tick is a millisecond, and an update spans one tick.
    ticks = itertools.count()
    rows = run([3, 5], frames=4, seed=1, clock=lambda: next(ticks) * 1e-3)
    assert [(row.tracker, row.people) for row in rows] == [
        ("bytetrack", 3),
        ("ultralytics-bytetrack-equal", 3),
        ("bytetrack", 5),
        ("ultralytics-bytetrack-equal", 5),
    ]
    for row in rows:
        assert row.median_ms == pytest.approx(1)
        assert row.p95_ms == pytest.approx(1)


def test_the_garbage_collector_runs_again_afterwards() -> None:
    run([1], frames=1)
    assert gc.isenabled()


@pytest.mark.parametrize(("people", "frames"), [([0], 1), ([1], 0)])
def test_an_empty_benchmark_is_refused(people: list[int], frames: int) -> None:
    with pytest.raises(ValueError, match="at least one frame and one person"):
        run(people, frames)


def test_a_stream_depends_on_its_seed_alone() -> None:
    one, same, other = (crowd_stream(10, 5, seed) for seed in (1, 1, 2))
    assert all(
        np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores) for a, b in zip(one, same, strict=True)
    )
    assert not np.array_equal(one[0].boxes, other[0].boxes)


def test_a_stream_is_valid_and_has_the_requested_density() -> None:
    stream = crowd_stream(100, 50, seed=0, settings=StreamSettings(missed=0.1, false_alarms=0))
    assert np.mean([len(detections) for detections in stream]) == pytest.approx(90, abs=3)
    for detections in stream:
        assert detections.boxes.dtype == detections.scores.dtype == np.float32
        assert (detections.boxes[:, 2:] > detections.boxes[:, :2]).all()
        assert (np.diff(detections.scores) <= 0).all()
        assert ((detections.scores >= 0.1) & (detections.scores <= 1)).all()

"""The metrics of the service. Ray's agent on each node exports them; Prometheus reads them as `ray_motserve_…`.

How Ray 2.60 handles metrics decides which process may own which kind:

- The agent keeps a counter or histogram of a process for ever, under the ID of the process. A session lives only as
  long as its video, so it has none: it reports to the one `MetricsCollector`, whose series span all videos.
- The agent drops a gauge that is not set again within 20 s. Sessions may have gauges with the ID of the video, which
  end with the video; replicas set their gauges every few seconds.
- The agent rebuilds histograms from the midpoints of their buckets, so their `_sum` is rough. Where an average
  matters, divide two counters.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from ray.serve import metrics as serve_metrics
from ray.util import metrics

from motserve.config.base import Role
from motserve.pipeline.observer import Stage
from motserve.serving.inference.batching import Pass

_SECONDS: Final = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]
_SIZES: Final = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
_SHARES: Final = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]

# For Prometheus a counter whose first value is 5 has not increased by 5; a counter that starts at 0 has. Ray refuses to
# add 0, and this number is too small to change any sum.
_ZERO: Final = sys.float_info.min

STALE: Final = "gauges were not set"
"""Log message for a failed refresh of gauges."""

Ending: TypeAlias = Literal["done", "failed", "lost", "deleted"]
"""How a video ended."""

COUNTS: Final = {
    "decoded": ("motserve_frames_decoded_total", "Frames decoded."),
    "tracked": ("motserve_frames_tracked_total", "Frames that went through the tracker."),
    "embeddings": ("motserve_embeddings_total", "Embeddings computed for tracking."),
    "embeddings_skipped": (
        "motserve_embeddings_skipped_total",
        "Embeddings not computed that reid.policy always would have computed.",
    ),
    "links": ("motserve_links_total", "Returning people who got their previous identity."),
    "retried": ("motserve_requests_retried_total", "Requests sent again because the replica died."),
}
"""Counts of the sessions: key in a report, name and description of the metric."""


class ModelMetrics:
    """Metrics of one replica and its model.

    Args:
        role: Role of the model.
        max_batch: Most items in one run of the model.
    """

    def __init__(self, role: Role, max_batch: int) -> None:
        self._max_batch = max_batch
        factory = _MetricFactory({"role": role})
        self._sizes = factory.histogram("motserve_model_batch_size", "Images in one run of the model.", _SIZES)
        self._fill = factory.histogram(
            "motserve_model_batch_fill", "Share of the largest batch that was filled.", _SHARES
        )
        self._queue = factory.histogram(
            "motserve_model_queue_seconds", "Seconds from a request's arrival at the replica to its run.", _SECONDS
        )
        self._seconds = factory.histogram("motserve_model_pass_seconds", "Seconds of one run of the model.", _SECONDS)
        self._items = factory.counter("motserve_model_items_total", "Images that the model processed.")
        self._passes = factory.counter("motserve_model_passes_total", "Runs of the model.")
        self._slots = factory.counter("motserve_model_slots_total", "Images that would have filled these runs.")
        self._busy = factory.counter("motserve_model_busy_seconds_total", "Seconds that the model ran.")
        self._used = factory.gauge(
            "motserve_gpu_memory_used_bytes", "Memory in use on the replica's GPU, by all processes."
        )
        self._total = factory.gauge("motserve_gpu_memory_total_bytes", "Memory of the replica's GPU.")
        self._info = factory.gauge(
            "motserve_model_info",
            "1 for the weights that new videos get. `fallback` states whether preferred weights were unavailable.",
            ("weights", "sha256", "fallback"),
        )

    def record_pass(self, done: Pass) -> None:
        """Count a run of the model."""
        self._sizes.observe(done.items)
        self._fill.observe(done.items / self._max_batch)
        self._seconds.observe(max(done.seconds, 0.0))
        for waited in done.waited_s:
            self._queue.observe(max(waited, 0.0))
        self._items.inc(done.items)
        self._passes.inc()
        self._slots.inc(self._max_batch)
        self._busy.inc(max(done.seconds, _ZERO))

    def model(self, weights: Mapping[str, str]) -> None:
        """Set the weights that new videos get. Call it at intervals: Ray drops a gauge that is not set again."""
        fallback = "true" if weights.get("fallback") else "false"
        self._info.set(1, {"weights": weights["name"], "sha256": weights["sha256"][:12], "fallback": fallback})

    def gpu(self, memory: tuple[int, int] | None) -> None:
        """Set used and total memory of the GPU in bytes; None if there is no GPU."""
        if memory is not None:
            self._used.set(memory[0])
            self._total.set(memory[1])


class ServiceMetrics:
    """Metrics of all videos together, owned by the one process that outlives them."""

    def __init__(self) -> None:
        factory = _MetricFactory({})
        self._counts = {key: factory.counter(name, description) for key, (name, description) in COUNTS.items()}
        self._dropped = factory.counter(
            "motserve_frames_dropped_total",
            "Frames decoded and never tracked, because their video ended first.",
            ("status",),
        )
        self._stages = factory.histogram(
            "motserve_stage_seconds", "Seconds that a chunk of frames took in a stage.", _SECONDS, ("stage",)
        )
        self._stage_total = factory.counter(
            "motserve_stage_busy_seconds_total", "Seconds that chunks spent in a stage.", ("stage",)
        )
        self._videos = factory.counter("motserve_videos_total", "Videos that ended.", ("status",))
        self._sessions = factory.gauge("motserve_sessions", "Active videos.", ("status",))
        self._max_active = factory.gauge("motserve_sessions_max", "Most videos that may be active at a time.")
        for stage in get_args(Stage):
            self._stage_total.inc(_ZERO, {"stage": stage})
        for ending in get_args(Ending):
            self._videos.inc(_ZERO, {"status": ending})
            self._dropped.inc(_ZERO, {"status": ending})

    def count(self, key: str, value: float) -> None:
        """Add to one of `COUNTS`."""
        if value > 0:
            self._counts[key].inc(value)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Record how long a chunk took in a stage."""
        self._stages.observe(max(seconds, 0.0), {"stage": stage})
        if seconds > 0:
            self._stage_total.inc(seconds, {"stage": stage})

    def ended(self, ending: Ending, dropped: int) -> None:
        """Count a video that ended, and its frames that were decoded and not tracked."""
        self._videos.inc(1, {"status": ending})
        if dropped > 0:
            self._dropped.inc(dropped, {"status": ending})

    def sessions(self, queued: int, running: int, max_active: int) -> None:
        """Set the number of active videos, and the most that are allowed."""
        self._sessions.set(queued, {"status": "queued"})
        self._sessions.set(running, {"status": "running"})
        self._max_active.set(max_active)


_VIDEO_GAUGES: Final = {
    "decoded": ("motserve_video_frames_decoded", "Frames decoded so far."),
    "tracked": ("motserve_video_frames_tracked", "Frames tracked so far."),
    "expected": ("motserve_video_frames_expected", "Frames of the video, according to its container."),
    "identities": ("motserve_video_identities", "Different people so far."),
    "embeddings": ("motserve_video_embeddings", "Embeddings computed so far."),
    "embeddings_skipped": (
        "motserve_video_embeddings_skipped",
        "Embeddings not computed that reid.policy always would have computed.",
    ),
    "links": ("motserve_video_links", "Returning people who got their previous identity so far."),
}


class VideoGauges:
    """Progress of one video while its session runs. They are all gauges, so they end with the session.

    Args:
        video_id: The video.
    """

    def __init__(self, video_id: str) -> None:
        factory = _MetricFactory({"video_id": video_id}, metrics)
        self._gauges = {key: factory.gauge(name, description) for key, (name, description) in _VIDEO_GAUGES.items()}
        self._stages = factory.gauge("motserve_video_stage_seconds", "Seconds spent in a stage so far.", ("stage",))

    def set(self, values: Mapping[str, float | None], stages: Mapping[Stage, float]) -> None:
        """Set progress and seconds per stage; a value of None is unknown and not set."""
        for key, value in values.items():
            if value is not None:
                self._gauges[key].set(value)
        for stage, seconds in stages.items():
            self._stages.set(seconds, {"stage": stage})


@dataclass(frozen=True, slots=True)
class _MetricFactory:
    """Makes metrics that share some labels.

    Attributes:
        labels: The shared labels and their values.
        library: `ray.serve.metrics`, which adds deployment and replica, for replicas; `ray.util.metrics` for actors.
    """

    labels: dict[str, str]
    library: Any = serve_metrics

    def counter(self, name: str, description: str, extra_labels: tuple[str, ...] = ()) -> Any:
        counter = self._labelled(self.library.Counter(name, description, self._keys(extra_labels)))
        if not extra_labels:
            counter.inc(_ZERO)
        return counter

    def gauge(self, name: str, description: str, extra_labels: tuple[str, ...] = ()) -> Any:
        return self._labelled(self.library.Gauge(name, description, self._keys(extra_labels)))

    def histogram(self, name: str, description: str, bounds: list[float], extra_labels: tuple[str, ...] = ()) -> Any:
        return self._labelled(self.library.Histogram(name, description, bounds, self._keys(extra_labels)))

    def _keys(self, extra_labels: tuple[str, ...]) -> tuple[str, ...]:
        return (*self.labels, *extra_labels)

    def _labelled(self, metric: Any) -> Any:
        metric.set_default_tags(dict(self.labels))
        return metric


def gpu_memory(cuda: Any) -> tuple[int, int] | None:
    """Return used and total bytes of the current GPU, of all processes; None if there is no GPU.

    Args:
        cuda: `torch.cuda`.
    """
    if not cuda.is_available():
        return None
    free, total = cuda.mem_get_info()
    return total - free, total

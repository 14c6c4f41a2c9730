"""The metrics of the service. Ray's agent on each machine exports them; Prometheus reads them as `ray_motserve_…`.

What Ray 2.60 does with metrics decides which process may have which:

- A counter or histogram of a process stays in the agent for ever, under the ID of the process. A session lives as
  long as its video, so it has none: it reports to the one `MetricsCollector`, whose series go on from video to video.
- A gauge is forgotten after 20 s unless it is set again. Sessions may have gauges, with the ID of the video, and they
  end with it; gauges of replicas are set every few seconds.
- The agent puts histograms together from the middles of their buckets: the `_sum` of one is rough. Where an average
  matters there are counters to divide.
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

# A counter whose first value is 5 has, for Prometheus, not increased by 5; one that begins at 0 has. Ray refuses to add
# 0, but this is lost in any sum.
_NOTHING: Final = sys.float_info.min

STALE: Final = "gauges were not set"
"""What is said where they could not be set again in time."""

Ending: TypeAlias = Literal["done", "failed", "lost", "deleted"]
"""What became of a video."""

COUNTS: Final = {
    "decoded": ("motserve_frames_decoded_total", "Frames decoded."),
    "tracked": ("motserve_frames_tracked_total", "Frames that went through the tracker."),
    "embeddings": ("motserve_embeddings_total", "Embeddings computed for tracking."),
    "spared": ("motserve_embeddings_spared_total", "Embeddings that reid.policy always would have computed as well."),
    "links": ("motserve_links_total", "Returning people who were given their old identity."),
    "repeated": ("motserve_requests_repeated_total", "Requests made again because a replica died under them."),
}
"""What sessions count: name in a report, name and description of the metric."""


class ModelMetrics:
    """What a replica tells of its model.

    Args:
        role: The model's part.
        max_batch: Most items in one run of the model.
    """

    def __init__(self, role: Role, max_batch: int) -> None:
        self._max_batch = max_batch
        own = _Made({"role": role})
        self._sizes = own.histogram("motserve_model_batch_size", "Pictures in one run of the model.", _SIZES)
        self._fill = own.histogram("motserve_model_batch_fill", "Share of the largest batch that was filled.", _SHARES)
        self._queue = own.histogram(
            "motserve_model_queue_seconds", "Seconds from a request's arrival at the replica to its run.", _SECONDS
        )
        self._seconds = own.histogram("motserve_model_pass_seconds", "Seconds of one run of the model.", _SECONDS)
        self._items = own.counter("motserve_model_items_total", "Pictures that the model answered.")
        self._passes = own.counter("motserve_model_passes_total", "Runs of the model.")
        self._slots = own.counter("motserve_model_slots_total", "Pictures that these runs had room for.")
        self._busy = own.counter("motserve_model_busy_seconds_total", "Seconds that the model worked.")
        self._used = own.gauge("motserve_gpu_memory_used_bytes", "Memory in use on the replica's GPU, by all.")
        self._total = own.gauge("motserve_gpu_memory_total_bytes", "Memory of the replica's GPU.")
        self._info = own.gauge(
            "motserve_model_info",
            "1 for what new videos get. `fallback` says whether other weights were preferred and could not be had.",
            ("weights", "sha256", "fallback"),
        )

    def passed(self, done: Pass) -> None:
        """Count a run of the model."""
        self._sizes.observe(done.items)
        self._fill.observe(done.items / self._max_batch)
        self._seconds.observe(max(done.seconds, 0.0))
        for waited in done.waited_s:
            self._queue.observe(max(waited, 0.0))
        self._items.inc(done.items)
        self._passes.inc()
        self._slots.inc(self._max_batch)
        self._busy.inc(max(done.seconds, _NOTHING))

    def model(self, weights: Mapping[str, str]) -> None:
        """Say which weights new videos get; it is forgotten unless it is said again and again."""
        fallback = "true" if weights.get("fallback") else "false"
        self._info.set(1, {"weights": weights["name"], "sha256": weights["sha256"][:12], "fallback": fallback})

    def gpu(self, memory: tuple[int, int] | None) -> None:
        """Say how much memory of the GPU is used, and how much it has, in bytes; None where there is no GPU."""
        if memory is not None:
            self._used.set(memory[0])
            self._total.set(memory[1])


class ServiceMetrics:
    """What is told of all videos together, by the one process that outlives them."""

    def __init__(self) -> None:
        own = _Made({})
        self._counts = {key: own.counter(name, about) for key, (name, about) in COUNTS.items()}
        self._dropped = own.counter(
            "motserve_frames_dropped_total",
            "Frames decoded and never tracked, because their video ended before.",
            ("status",),
        )
        self._stages = own.histogram(
            "motserve_stage_seconds", "Seconds that a chunk of frames took in a stage.", _SECONDS, ("stage",)
        )
        self._stage_total = own.counter(
            "motserve_stage_busy_seconds_total", "Seconds that chunks spent in a stage.", ("stage",)
        )
        self._videos = own.counter("motserve_videos_total", "Videos that ended.", ("status",))
        self._sessions = own.gauge("motserve_sessions", "Videos in work.", ("status",))
        self._most = own.gauge("motserve_sessions_max", "Videos that may be in work at a time.")
        for stage in get_args(Stage):
            self._stage_total.inc(_NOTHING, {"stage": stage})
        for ending in get_args(Ending):
            self._videos.inc(_NOTHING, {"status": ending})
            self._dropped.inc(_NOTHING, {"status": ending})

    def count(self, key: str, value: float) -> None:
        """Add to one of `COUNTS`."""
        if value > 0:
            self._counts[key].inc(value)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Tell how long a chunk took in a stage."""
        self._stages.observe(max(seconds, 0.0), {"stage": stage})
        if seconds > 0:
            self._stage_total.inc(seconds, {"stage": stage})

    def ended(self, ending: Ending, dropped: int) -> None:
        """Count a video that ended, and frames of it that were decoded in vain."""
        self._videos.inc(1, {"status": ending})
        if dropped > 0:
            self._dropped.inc(dropped, {"status": ending})

    def sessions(self, queued: int, running: int, most: int) -> None:
        """Tell how many videos are in work."""
        self._sessions.set(queued, {"status": "queued"})
        self._sessions.set(running, {"status": "running"})
        self._most.set(most)


_VIDEO_GAUGES: Final = {
    "decoded": ("motserve_video_frames_decoded", "Frames decoded so far."),
    "tracked": ("motserve_video_frames_tracked", "Frames tracked so far."),
    "expected": ("motserve_video_frames_expected", "Frames of the video, as its container says."),
    "identities": ("motserve_video_identities", "Different people so far."),
    "embeddings": ("motserve_video_embeddings", "Embeddings computed so far."),
    "spared": ("motserve_video_embeddings_spared", "Embeddings that reid.policy always would have computed as well."),
    "links": ("motserve_video_links", "Returning people who were given their old identity, so far."),
}


class VideoGauges:
    """What a session tells of its own video while it runs. Gauges alone: they end with the session.

    Args:
        video_id: The video.
    """

    def __init__(self, video_id: str) -> None:
        own = _Made({"video_id": video_id}, metrics)
        self._gauges = {key: own.gauge(name, about) for key, (name, about) in _VIDEO_GAUGES.items()}
        self._stages = own.gauge("motserve_video_stage_seconds", "Seconds spent in a stage so far.", ("stage",))

    def set(self, values: Mapping[str, float | None], stages: Mapping[Stage, float]) -> None:
        """Tell how far the video is; what is None is not known."""
        for key, value in values.items():
            if value is not None:
                self._gauges[key].set(value)
        for stage, seconds in stages.items():
            self._stages.set(seconds, {"stage": stage})


@dataclass(frozen=True, slots=True)
class _Made:
    """Makes metrics that have some labels in common.

    Attributes:
        labels: These labels.
        library: `ray.serve.metrics` adds deployment and replica, and is for replicas.
    """

    labels: dict[str, str]
    library: Any = serve_metrics

    def counter(self, name: str, about: str, more: tuple[str, ...] = ()) -> Any:
        counter = self._labelled(self.library.Counter(name, about, self._keys(more)))
        if not more:
            counter.inc(_NOTHING)
        return counter

    def gauge(self, name: str, about: str, more: tuple[str, ...] = ()) -> Any:
        return self._labelled(self.library.Gauge(name, about, self._keys(more)))

    def histogram(self, name: str, about: str, bounds: list[float], more: tuple[str, ...] = ()) -> Any:
        return self._labelled(self.library.Histogram(name, about, bounds, self._keys(more)))

    def _keys(self, more: tuple[str, ...]) -> tuple[str, ...]:
        return (*self.labels, *more)

    def _labelled(self, metric: Any) -> Any:
        metric.set_default_tags(dict(self.labels))
        return metric


def gpu_memory(cuda: Any) -> tuple[int, int] | None:
    """Return the bytes in use on the present GPU, by all processes, and those it has; None where there is no GPU.

    Args:
        cuda: `torch.cuda`.
    """
    if not cuda.is_available():
        return None
    free, total = cuda.mem_get_info()
    return total - free, total

"""Reads what the service exports for Prometheus, and what its models did between two readings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from motserve.config.base import Role
from motserve.errors import MotserveError
from motserve.models.extras import required_extra

_PREFIX: Final = "ray_motserve_"
_ANSWER_S: Final = 30.0
_POLL_S: Final = 0.5

Series = tuple[str, frozenset[tuple[str, str]]]
"""Name of a metric without its prefix, and its labels."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The series of the service at one time.

    Attributes:
        values: Value of each series.
    """

    values: Mapping[Series, float]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a metric that have these labels; 0 if there is none."""
        required = set(labels.items())
        return sum(value for (key, has), value in self.values.items() if key == name and required <= has)

    def by_label(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the sums of the series of a metric that have these labels, by the value of another label."""
        required, sums = set(labels.items()), dict[str, float]()
        for (key, has), value in self.values.items():
            if key == name and required <= has:
                group = dict(has).get(label, "")
                sums[group] = sums.get(group, 0.0) + value
        return sums


def parse(text: str) -> Reading:
    """Return the series of motserve in the text format of Prometheus; those of the same labels are added up.

    Raises:
        MotserveError: The text is not in that format.
    """
    with required_extra("serve", "the metrics of the service"):
        from prometheus_client.parser import text_string_to_metric_families

    values: dict[Series, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith(_PREFIX):
                    series = sample.name.removeprefix(_PREFIX), frozenset(sample.labels.items())
                    values[series] = values.get(series, 0.0) + sample.value
    except ValueError as error:
        raise MotserveError(f"the metrics of the service are not in the format of Prometheus: {error}") from error
    return Reading(values)


def read_metrics(url: str) -> Reading:
    """Return what a service exports.

    Args:
        url: Address of the metrics, such as `http://127.0.0.1:8080/metrics`.

    Raises:
        MotserveError: Nothing answers there, or not with metrics.
    """
    try:
        answer = httpx.get(url, timeout=_ANSWER_S, trust_env=False)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MotserveError(f"cannot read the metrics of the service at {url}: {error}") from error
    return parse(answer.text)


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What the replicas of a model did.

    Attributes:
        items: Images processed.
        passes: Runs of the network.
        slots: Images that would have filled these runs.
        busy_s: Seconds that the network ran.
        waits: Number of requests that waited up to a number of seconds for their run, by that number.
    """

    items: float = 0.0
    passes: float = 0.0
    slots: float = 0.0
    busy_s: float = 0.0
    waits: Mapping[float, float] = field(default_factory=dict)

    def __add__(self, other: ModelUse) -> ModelUse:
        bounds = sorted({*self.waits, *other.waits})
        return ModelUse(
            self.items + other.items,
            self.passes + other.passes,
            self.slots + other.slots,
            self.busy_s + other.busy_s,
            {bound: self.waits.get(bound, 0.0) + other.waits.get(bound, 0.0) for bound in bounds},
        )

    @property
    def mean_batch(self) -> float | None:
        """Images per run; None without a run."""
        return self.items / self.passes if self.passes else None

    @property
    def fill(self) -> float | None:
        """Share of the largest batch that was filled, in [0, 1]; None without a run."""
        return self.items / self.slots if self.slots else None

    def wait_ms(self, share: float) -> float | None:
        """Return the milliseconds within which a share of the requests began to run, interpolated between the bounds.

        Args:
            share: The share, in (0, 1].

        Returns:
            The time; the largest finite bound for requests that waited longer; None without requests.
        """
        total = max(self.waits.values(), default=0.0)
        below, lower = 0.0, 0.0
        for bound, count in sorted(self.waits.items()):
            if total > 0 and count >= share * total:
                if math.isinf(bound):
                    return lower * 1e3
                return (lower + (bound - lower) * (share * total - below) / (count - below)) * 1e3
            below, lower = count, bound
        return None


def model_use(before: Reading, after: Reading, role: Role) -> ModelUse:
    """Return what the replicas of a model did between two readings."""

    def increase(name: str) -> float:
        return after.total(name, role=role) - before.total(name, role=role)

    name = "model_queue_seconds_bucket"
    first, last = before.by_label(name, "le", role=role), after.by_label(name, "le", role=role)
    return ModelUse(
        increase("model_items_total"),
        increase("model_passes_total"),
        increase("model_slots_total"),
        increase("model_busy_seconds_total"),
        {float(bound): count - first.get(bound, 0.0) for bound, count in last.items()},
    )


def stage_seconds(before: Reading, after: Reading) -> dict[str, float]:
    """Return the seconds that chunks of frames spent in each stage of the sessions between two readings."""
    name = "stage_busy_seconds_total"
    first = before.by_label(name, "stage")
    return {stage: total - first.get(stage, 0.0) for stage, total in after.by_label(name, "stage").items()}


def settled(
    read: Callable[[], Reading],
    before: Reading,
    frames: int,
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Reading | None:
    """Read the metrics until they contain frames that were tracked; processes export theirs at intervals of seconds.

    Args:
        read: Reads the metrics.
        before: The reading before the frames.
        frames: Number of the frames.
        limit_s: Seconds after which it gives up.
        clock: Monotonic clock in seconds.
        wait: Waits for some seconds.

    Returns:
        The reading; None if the metrics do not contain all frames in time.
    """
    end = clock() + limit_s
    while True:
        reading = read()
        detected = reading.total("model_items_total", role="detector") - before.total(
            "model_items_total", role="detector"
        )
        tracked = reading.total("frames_tracked_total") - before.total("frames_tracked_total")
        embedded, embeddings = reading.total("model_items_total", role="reid"), reading.total("embeddings_total")
        if min(detected, tracked) >= frames and round(embedded) >= round(embeddings):
            return reading
        if clock() >= end:
            return None
        wait(_POLL_S)

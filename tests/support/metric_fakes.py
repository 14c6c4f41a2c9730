"""Fakes of Ray's metrics that record their values and refuse what Ray refuses."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

Labels = frozenset[tuple[str, str]]


class Board:
    """The recorded values by name of the metric and labels, as Prometheus would show them."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.values: dict[str, dict[Labels, list[float]]] = defaultdict(lambda: defaultdict(list))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series that have these labels."""
        required = set(labels.items())
        return sum(sum(values) for series, values in self.values[name].items() if required <= series)

    def latest(self, name: str, **labels: str) -> float:
        (series,) = [values for series, values in self.values[name].items() if set(labels.items()) <= series]
        return series[-1]

    def recorded(self, name: str, **labels: str) -> list[float]:
        required = set(labels.items())
        return [value for series, values in self.values[name].items() if required <= series for value in values]


def put_up(monkeypatch: pytest.MonkeyPatch) -> Board:
    """Replace the metrics of Ray and Ray Serve for a test."""
    board = Board()

    class Metric:
        kind = ""

        def __init__(self, name: str, description: str, *more: Any) -> None:
            assert description.endswith(".")
            self._name, self._keys, self._defaults = name, set(more[-1]), dict[str, str]()
            board.kinds[name] = self.kind

        def set_default_tags(self, tags: dict[str, str]) -> None:
            self._defaults = tags

        def _record(self, value: float, tags: dict[str, str] | None = None) -> None:
            labels = {**self._defaults, **(tags or {})}
            assert set(labels) == self._keys, f"{self._name} has labels {self._keys}, not {set(labels)}"
            board.values[self._name][frozenset(labels.items())].append(value)

    class Counter(Metric):
        kind = "counter"

        def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
            assert value > 0, "Ray refuses to add nothing"
            self._record(value, tags)

    class Gauge(Metric):
        kind = "gauge"

        def set(self, value: float, tags: dict[str, str] | None = None) -> None:
            self._record(value, tags)

    class Histogram(Metric):
        kind = "histogram"

        def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
            self._record(value, tags)

    for kind in (Counter, Gauge, Histogram):
        monkeypatch.setattr(f"ray.serve.metrics.{kind.__name__}", kind)
        monkeypatch.setattr(f"ray.util.metrics.{kind.__name__}", kind)
    return board

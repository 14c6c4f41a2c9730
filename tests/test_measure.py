"""What scores of models are compared by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from motserve.config import Config
from motserve.experiments import measure


def test_tracks_of_another_embedder_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(detector: str, embedder: str | None) -> str:
        weights = {"detector": {"sha256": detector}, "reid": embedder and {"sha256": embedder}}

        def track(*_: Any, **__: Any) -> Any:
            combined = SimpleNamespace(scores=SimpleNamespace(as_dict=lambda: {"MOTA": 0.5}))
            return SimpleNamespace(scored=SimpleNamespace(combined=combined), data={}, weights=weights)

        monkeypatch.setattr(measure, "track_and_score", track)
        return measure.measure_tracking(Config(), {}).key

    assert key("a", "e") == key("b", "e"), "detectors are what is compared"
    assert len({key("a", "e"), key("a", "f"), key("a", None)}) == 3

"""Trackers of other packages behind one small interface, to be run and timed beside motserve's own.

What a package needs as input is made before its step, and what it answers is read after it, so that a clock around
the step measures the tracker alone. Camera motion is not compensated and no appearance is used: peers get what
motserve's own trackers get.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import yaml

from motserve.base import TrackerBase
from motserve.config import PUBLISHED, ByteTrackConfig, CascadeConfig, TrackerConfig
from motserve.libraries import import_ultralytics
from motserve.types import Detections, Tracks

Step = Callable[[], Any]

_PUBLISHED: Final = ByteTrackConfig(**PUBLISHED)
_FIXED: Final = (
    "second_match_distance",
    "unconfirmed_match_distance",
    "duplicate_iou",
    "kalman",
    *PUBLISHED,
)
_SHAPE: Final = (1080, 1920)  # Ultralytics wants a size for boxes that it never scales


class Contender(ABC):
    """A tracker that takes part in a comparison. One object serves one video."""

    @abstractmethod
    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """Return the step that advances the tracker by a frame; see `TrackerBase.update` for the arguments."""

    @abstractmethod
    def read(self, answer: Any) -> Tracks:
        """Turn what the step returned into tracks."""


class Own(Contender):
    """One of motserve's own trackers."""

    def __init__(self, tracker: TrackerBase) -> None:
        self._tracker = tracker

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        return partial(self._tracker.update, detections, timestamp)

    def read(self, answer: Tracks) -> Tracks:
        """See `Contender.read`."""
        return answer


class Ultralytics(Contender):
    """A tracker of Ultralytics, which counts frames and knows no time.

    Args:
        name: Its name there.
        **changes: Settings that differ from those Ultralytics ships.
    """

    def __init__(self, name: str, **changes: Any) -> None:
        import_ultralytics()
        from ultralytics.trackers.track import TRACKER_MAP
        from ultralytics.utils.checks import check_yaml

        file = Path(check_yaml(f"{name}.yaml"))  # type: ignore[no-untyped-call]
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        if "gmc_method" in settings:
            settings["gmc_method"] = "none"
        self._tracker: Any = TRACKER_MAP[name](SimpleNamespace(**{**settings, **changes}))

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        from ultralytics.engine.results import Boxes

        columns = [detections.boxes, detections.scores[:, None], detections.classes[:, None].astype(np.float32)]
        return partial(self._tracker.update, Boxes(np.concatenate(columns, axis=1), _SHAPE))

    def read(self, answer: Any) -> Tracks:
        """See `Contender.read`. Rows are box, ID, score, class and row of the detection."""
        rows = np.asarray(answer, np.float32).reshape(-1, 8)
        ids, classes, detections = (rows[:, column].astype(np.int64) for column in (4, 6, 7))
        return Tracks(ids, rows[:, :4], rows[:, 5], classes, detections)


class Roboflow(Contender):
    """A tracker of Roboflow's package `trackers`.

    Args:
        name: Name of its class.
        rate_hz: Frame rate in Hz, None where it is not known.
        **changes: Arguments that differ from its defaults.
    """

    def __init__(self, name: str, rate_hz: float | None, **changes: Any) -> None:
        import trackers

        rate = {} if rate_hz is None else {"frame_rate": rate_hz}
        self._tracker = getattr(trackers, name)(**rate, **changes)

    def prepare(self, detections: Detections, timestamp: float) -> Step:
        """See `Contender.prepare`."""
        import supervision

        seen = supervision.Detections(
            xyxy=detections.boxes,
            confidence=detections.scores,
            class_id=detections.classes,
            data={"row": np.arange(len(detections))},
        )
        return partial(self._tracker.update, seen)

    def read(self, answer: Any) -> Tracks:
        """See `Contender.read`. Detections without a track have the ID -1; IDs count from 0."""
        found = np.flatnonzero(answer.tracker_id >= 0) if len(answer) else np.empty(0, np.int64)
        if not found.size:
            return Tracks.empty()
        return Tracks(
            np.asarray(answer.tracker_id[found], np.int64) + 1,
            np.asarray(answer.xyxy[found], np.float32),
            np.asarray(answer.confidence[found], np.float32),
            np.asarray(answer.class_id[found], np.int64),
            np.asarray(answer.data["row"][found], np.int64),
        )


def equal_thresholds(config: CascadeConfig, rate_hz: float) -> dict[str, Any]:
    """Return the settings of Ultralytics' tracker that correspond to a configuration; see `without_equal`."""
    return {
        "track_high_thresh": config.high_confidence,
        "track_low_thresh": config.low_confidence,
        "new_track_thresh": config.new_track_confidence,
        "track_buffer": round(config.lost_buffer_s * rate_hz),
        "match_thresh": config.match_distance,
        "fuse_score": config.fuse_score,
    }


def without_equal(config: TrackerConfig) -> list[str]:
    """Return the keys of a configuration by which it is not Ultralytics' ByteTrack, whatever its thresholds."""
    if not isinstance(config, ByteTrackConfig):
        return ["name"]
    return [key for key in _FIXED if getattr(config, key) != getattr(_PUBLISHED, key)]


_ULTRALYTICS: Final[Mapping[str, str]] = {
    f"ultralytics-{name}": name for name in ("bytetrack", "botsort", "ocsort", "fasttrack")
}
_ROBOFLOW: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "roboflow-sort": ("SORTTracker", {}),
    "roboflow-bytetrack": ("ByteTrackTracker", {}),
    "roboflow-botsort": ("BoTSORTTracker", {"enable_cmc": False}),
    "roboflow-ocsort": ("OCSORTTracker", {}),
    "roboflow-cbiou": ("CBIoUTracker", {}),
}


def available_peers() -> dict[str, Callable[[float | None], Contender]]:
    """Return what makes each peer that is installed, with the settings it ships with, from a frame rate in Hz."""
    peers: dict[str, Callable[[float | None], Contender]] = {}
    for peer, name in _ULTRALYTICS.items():
        peers[peer] = lambda _, name=name: Ultralytics(name)  # type: ignore[misc]
    if find_spec("trackers") is not None:
        for peer, (name, changes) in _ROBOFLOW.items():
            peers[peer] = lambda rate, name=name, changes=changes: Roboflow(name, rate, **changes)  # type: ignore[misc]
    return peers

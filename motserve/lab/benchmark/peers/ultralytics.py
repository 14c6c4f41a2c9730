"""The trackers of Ultralytics, and its ByteTrack with the thresholds of a configuration."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import yaml

from motserve.config import PUBLISHED, ByteTrackConfig, CascadeConfig, TrackerConfig
from motserve.lab.benchmark.peers.contender import Contender, Step, detection_rows
from motserve.models.libraries import import_ultralytics
from motserve.types import Detections, Tracks

NAMES: Final = ("bytetrack", "botsort", "ocsort", "fasttrack")
"""Names of the trackers in Ultralytics."""

_PUBLISHED: Final = ByteTrackConfig(**PUBLISHED)
_FIXED: Final = (
    "second_match_distance",
    "unconfirmed_match_distance",
    "duplicate_iou",
    *PUBLISHED,
)
_SHAPE: Final = (1080, 1920)  # Ultralytics requires an image size, although it does not scale the boxes


class Ultralytics(Contender):
    """A tracker of Ultralytics; it measures time in frames.

    Args:
        name: Its name in Ultralytics.
        **changes: Settings that differ from the defaults of Ultralytics.
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

        return partial(self._tracker.update, Boxes(detection_rows(detections), _SHAPE))

    def read(self, answer: Any) -> Tracks:
        """See `Contender.read`. Rows are box, ID, score, class and row of the detection."""
        rows = np.asarray(answer, np.float32).reshape(-1, 8)
        ids, classes, detections = (rows[:, column].astype(np.int64) for column in (4, 6, 7))
        return Tracks(ids, rows[:, :4], rows[:, 5], classes, detections)


def equal_thresholds(config: CascadeConfig, rate_hz: float) -> dict[str, Any]:
    """Return the settings of Ultralytics' tracker that correspond to a configuration; see `keys_without_equal`."""
    return {
        "track_high_thresh": config.high_confidence,
        "track_low_thresh": config.low_confidence,
        "new_track_thresh": config.new_track_confidence,
        "track_buffer": round(config.lost_buffer_s * rate_hz),
        "match_thresh": config.match_distance,
        "fuse_score": config.fuse_score,
    }


def keys_without_equal(config: TrackerConfig) -> list[str]:
    """Return the keys whose values no setting of Ultralytics' ByteTrack can reproduce; empty if all can be."""
    if not isinstance(config, ByteTrackConfig):
        return ["name"]
    return [key for key in _FIXED if getattr(config, key) != getattr(_PUBLISHED, key)]

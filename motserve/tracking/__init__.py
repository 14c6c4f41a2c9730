"""Tracking from frame to frame: motion models, association, trackers."""

from motserve.base import TrackerBase
from motserve.config import BotSortConfig, ByteTrackConfig, DeepSortConfig, OcSortConfig, SortConfig, TrackerConfig
from motserve.tracking.trackers.botsort import BotSort
from motserve.tracking.trackers.bytetrack import ByteTrack
from motserve.tracking.trackers.deepsort import DeepSort
from motserve.tracking.trackers.ocsort import OcSort
from motserve.tracking.trackers.sort import Sort
from motserve.tracking.trackers.strongsort import StrongSort

__all__ = ["BotSort", "ByteTrack", "DeepSort", "OcSort", "Sort", "StrongSort", "build_tracker"]


def build_tracker(config: TrackerConfig, rate_hz: float | None = None) -> TrackerBase:
    """Build the tracker that the configuration names.

    Args:
        config: The section `tracker`.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.

    Returns:
        A tracker for one video.

    Example:
        >>> type(build_tracker(ByteTrackConfig())).__name__
        'ByteTrack'
    """
    match config:
        case ByteTrackConfig():
            return ByteTrack(config, rate_hz)
        case BotSortConfig():
            return BotSort(config, rate_hz)
        case OcSortConfig():
            return OcSort(config, rate_hz)
        case SortConfig():
            return Sort(config, rate_hz)
        case DeepSortConfig():
            return DeepSort(config, rate_hz)
        case _:
            return StrongSort(config, rate_hz)

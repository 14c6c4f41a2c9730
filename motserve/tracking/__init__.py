"""Following people from frame to frame by motion: Kalman filter, association, ByteTrack."""

from motserve.base import TrackerBase
from motserve.config import TrackerConfig
from motserve.tracking.bytetrack import ByteTrack

__all__ = ["ByteTrack", "build_tracker"]


def build_tracker(config: TrackerConfig, rate_hz: float | None = None) -> TrackerBase:
    """Build the tracker that the configuration names.

    Args:
        config: The section `tracker`.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.

    Returns:
        A tracker for one video.

    Example:
        >>> type(build_tracker(TrackerConfig())).__name__
        'ByteTrack'
    """
    return {"bytetrack": ByteTrack}[config.name](config, rate_hz)

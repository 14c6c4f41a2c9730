"""Following people from frame to frame by motion: Kalman filter, association, ByteTrack."""

from motserve.base import TrackerBase
from motserve.config import TrackerConfig
from motserve.tracking.bytetrack import ByteTrack

__all__ = ["ByteTrack", "build_tracker"]


def build_tracker(config: TrackerConfig) -> TrackerBase:
    """Build the tracker that the configuration names.

    Args:
        config: The section `tracker`.

    Returns:
        A tracker for one video.

    Raises:
        InvalidConfig: The settings do not go together.

    Example:
        >>> type(build_tracker(TrackerConfig())).__name__
        'ByteTrack'
    """
    return {"bytetrack": ByteTrack}[config.name](config)

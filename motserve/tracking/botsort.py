"""BoT-SORT: ByteTrack with width and height in the motion model and a camera that moves.

Reference: Aharon, Orfaig and Bobrovsky, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022.
"""

from __future__ import annotations

from motserve.config import BotSortConfig, KalmanConfig
from motserve.tracking.bytetrack import ByteTrack
from motserve.tracking.kalman import KalmanFilter, SizeFilter


class BotSort(ByteTrack):
    """Follows objects as ByteTrack does, with boxes moved along with the picture before they are compared.

    The camera's motion comes with each frame, in `Cues.camera`; without it the camera rests.

    Args:
        config: Thresholds, buffer and motion model.
        rate_hz: The video's nominal frame rate in Hz, None where it is not known.
    """

    def __init__(self, config: BotSortConfig, rate_hz: float | None = None) -> None:
        super().__init__(config, rate_hz)

    def _motion_model(self, config: KalmanConfig) -> KalmanFilter:
        return SizeFilter(config)

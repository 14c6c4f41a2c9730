"""Sections that several trackers share: Kalman filter, camera motion, appearance, confidence scaling, buffered IoU."""

from __future__ import annotations

from pydantic import Field, model_validator

from motserve.config.base import Section


class KalmanConfig(Section):
    """Constant-velocity Kalman filter over centre x, centre y, aspect ratio and height."""

    reference_rate_hz: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Frame rate in Hz that the noises refer to: one filter step is 1 / rate seconds. null for the "
        "video's own rate, so that every frame is one step.",
    )
    position_noise: float = Field(
        1 / 20, gt=0, le=1, description="Standard deviation of the position per step, as a fraction of the box height."
    )
    velocity_noise: float = Field(
        1 / 160,
        gt=0,
        le=1,
        description="Standard deviation of the velocity per step, as a fraction of the box height. Raised, turns and "
        "stops are tracked sooner and boxes are less smooth.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> KalmanConfig:
        # between whole steps the noise is that of a continuous process, which exists from here on
        if self.position_noise**2 < self.velocity_noise**2 / 12:
            raise ValueError(
                f"position_noise {self.position_noise} must be at least velocity_noise {self.velocity_noise} / sqrt(12)"
            )
        return self


class TimedKalmanConfig(KalmanConfig):
    """The same filter with noises that grow with time instead of frames.

    A person can turn or stop within a tenth of a second at any frame rate. With one step per frame, the filter would
    predict straight motion over whole seconds at a low frame rate.
    """

    reference_rate_hz: float | None = Field(
        10.0,
        gt=0,
        le=1000,
        description="Frame rate in Hz that the noises refer to: one filter step is 1 / rate seconds. null for the "
        "video's own rate, as published.",
    )


class ConfidenceScalingConfig(Section):
    """Scaling of thresholds to the confidences of the detector.

    Detectors differ in their confidence for a person in plain view: YOLO gives 0.8, Faster R-CNN 0.95. A threshold
    that separates strong from weak detections of one passes all detections of the other. The tracker therefore
    measures the level: the recent mean of the confidences, weighted by their third power, so that strong detections
    dominate. It multiplies `high_confidence` and `new_track_confidence`, which are set for the level `reference`, by
    level / reference.
    """

    reference: float = Field(
        0.775,
        gt=0,
        le=1,
        description="Level of confidence that the thresholds are set for. Raised, the scaled thresholds are lower.",
    )
    min_level: float = Field(
        0.5, gt=0, le=1, description="Lowest level, so that false detections alone cannot lower it further."
    )
    memory_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Seconds after which the weight of a confidence in the level has dropped to 1/e. Raised, the level "
        "changes more slowly.",
    )
    prior: float = Field(
        10.0,
        gt=0,
        le=10_000,
        description="Weight of the initial level of 0.8, in detections. Raised, the first frames change the level "
        "less.",
    )


class BufferedIouConfig(Section):
    """A last association by buffered IoU (BIoU), the IoU of enlarged boxes, for low frame rates and sudden turns.

    Reference: Yang et al., "Hard to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by
    Buffering the Matching Space", WACV 2023.
    """

    expansion: float = Field(
        0.5,
        gt=0,
        le=5,
        description="Largest share of its width and height that a box is enlarged by on each side. Raised, faster "
        "motion is matched, and more wrong pairs are.",
    )
    speed: float = Field(
        5.0, gt=0, le=1000, description="Growth of that share per second since the last detection of the track."
    )
    match_distance: float = Field(
        0.7, gt=0, le=1, description="Largest cost of a match (1 - IoU of the enlarged boxes)."
    )
    height_ratio: float = Field(
        1.25, ge=1, le=10, description="Largest ratio between the heights of track and detection, in either direction."
    )


class CameraConfig(Section):
    """How the camera motion between two frames is estimated: optical flow of corners outside of people."""

    downscale: int = Field(
        2,
        ge=1,
        le=16,
        description="Factor by which frames are reduced first. Raised, the estimate is faster and coarser.",
    )
    corners: int = Field(400, ge=10, le=10_000, description="Largest number of corners in the optical flow.")


class AppearanceConfig(Section):
    """How embeddings take part in the first association of BoT-SORT."""

    max_distance: float = Field(0.25, ge=0, le=2, description="Largest cosine distance at which appearance counts.")
    max_iou_distance: float = Field(
        0.5, gt=0, le=1, description="Largest 1 - IoU of a pair whose appearance is compared."
    )
    smoothing: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Weight of the previous mean in a track's running mean of embeddings. Raised, it changes more "
        "slowly.",
    )

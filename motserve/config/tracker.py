"""The sections of the trackers, selected by `tracker.name`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from motserve.config.base import Section
from motserve.config.tracker_parts import (
    AppearanceConfig,
    BufferedIouConfig,
    CameraConfig,
    ConfidenceScalingConfig,
    KalmanConfig,
    TimedKalmanConfig,
)

_CONFIDENCE_SCALING = "Scaling of the thresholds to the detector's level of confidence; null for unscaled thresholds."
_BUFFERED_IOU = "Last association of unmatched tracks and detections, by the IoU of enlarged boxes; null for none."
_DETECTION_WEIGHT = "Weight of the detection in a returned box; the rest is the motion model's estimate."
_NEW_TRACK = (
    "Lowest confidence that starts a track; scaled by `confidence_scaling`. Raised, fewer false tracks start, and all "
    "start later."
)
_NAME = "Tracking algorithm."

_PREDICT_UNCONFIRMED = (
    "Predict a one-frame-old track too, so that its second detection sets its velocity; false as published."
)


class TrackerSection(Section):
    """Fields of all trackers."""

    class_aware: bool = Field(False, description="Match a track only with detections of its class.")
    class_vote: bool = Field(
        True,
        description="Report the class with the largest total confidence of a track's detections instead of the class "
        "of the latest one.",
    )


class CascadeConfig(TrackerSection):
    """Fields of the trackers that associate confident detections first and others later."""

    report_lost_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Seconds for which a lost track is reported with its predicted box and a confidence of 0.",
    )
    report_unconfirmed: bool = Field(
        False, description="Report a track from its first frame on, before a second detection confirms it."
    )

    high_confidence: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Lowest confidence of the detections in the first association; scaled by `confidence_scaling`.",
    )
    low_confidence: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Detections above this and below `high_confidence` take part in the second association.",
    )
    new_track_confidence: float = Field(0.7, ge=0, le=1, description=_NEW_TRACK)
    match_distance: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Largest cost of a match in the first association (1 - IoU x score). Raised, faster motion is "
        "matched, and more wrong pairs are.",
    )
    second_match_distance: float = Field(
        0.5, gt=0, le=1, description="Largest cost of a match in the second association (1 - IoU)."
    )
    unconfirmed_match_distance: float = Field(
        0.7, gt=0, le=1, description="Largest cost of a match that confirms a one-frame-old track."
    )
    duplicate_iou: float = Field(
        0.85,
        gt=0,
        le=1,
        description="IoU above which a tracked and a lost track are duplicates; the younger is dropped.",
    )
    fuse_score: bool = Field(True, description="Multiply IoU by detection confidence in the first association.")
    lost_buffer_s: float = Field(
        2.0,
        ge=0,
        le=600,
        description="Seconds for which a lost track can be matched again by motion. Raised, longer occlusions are "
        "bridged, and more people are confused.",
    )
    confidence_scaling: ConfidenceScalingConfig | None = Field(None, description=_CONFIDENCE_SCALING)
    buffered_iou: BufferedIouConfig | None = Field(None, description=_BUFFERED_IOU)
    detection_weight: float = Field(0.0, ge=0, le=1, description=_DETECTION_WEIGHT)
    predict_unconfirmed: bool = Field(False, description=_PREDICT_UNCONFIRMED)
    kalman: KalmanConfig = Field(KalmanConfig(), description="Motion model.")

    @model_validator(mode="after")
    def _ordered(self) -> CascadeConfig:
        if not self.low_confidence <= self.high_confidence <= self.new_track_confidence:
            raise ValueError(
                "low_confidence <= high_confidence <= new_track_confidence must hold, got "
                f"{self.low_confidence}, {self.high_confidence}, {self.new_track_confidence}"
            )
        if self.confidence_scaling is not None and self.new_track_confidence >= self.confidence_scaling.reference:
            raise ValueError(
                f"new_track_confidence {self.new_track_confidence} must be below confidence_scaling.reference "
                f"{self.confidence_scaling.reference}, the level that it is set for, or no detection could start a "
                "track; set confidence_scaling to null for unscaled thresholds"
            )
        return self


class ByteTrackConfig(CascadeConfig):
    """ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022).

    Motion and IoU only, two association stages. With `confidence_scaling`, `buffered_iou` and
    `kalman.reference_rate_hz` null, `detection_weight` 0 and `predict_unconfirmed` false it is the published algorithm.
    """

    name: Literal["bytetrack"] = Field("bytetrack", description=_NAME)
    confidence_scaling: ConfidenceScalingConfig | None = Field(
        ConfidenceScalingConfig(), description=_CONFIDENCE_SCALING
    )
    buffered_iou: BufferedIouConfig | None = Field(BufferedIouConfig(), description=_BUFFERED_IOU)
    detection_weight: float = Field(0.4, ge=0, le=1, description=_DETECTION_WEIGHT)
    predict_unconfirmed: bool = Field(True, description=_PREDICT_UNCONFIRMED)
    kalman: TimedKalmanConfig = Field(TimedKalmanConfig(), description="Motion model.")


class BotSortConfig(CascadeConfig):
    """BoT-SORT (Aharon et al., "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022).

    ByteTrack's associations with width and height in the motion model, compensation of the camera motion, and
    appearance.
    """

    name: Literal["botsort"] = Field("botsort", description=_NAME)
    camera: CameraConfig | None = Field(
        CameraConfig(), description="Estimate of the camera motion, which needs the frames; null for none."
    )
    appearance: AppearanceConfig | None = Field(
        None, description="Use of embeddings in the first association; null for none."
    )


class OcSortConfig(CascadeConfig):
    """OC-SORT (Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking", CVPR 2023)."""

    name: Literal["ocsort"] = Field("ocsort", description=_NAME)
    new_track_confidence: float = Field(0.6, ge=0, le=1, description=_NEW_TRACK)
    match_distance: float = Field(
        0.7, gt=0, le=1, description="Largest cost of a match in the first association (1 - IoU, direction included)."
    )
    fuse_score: bool = Field(False, description="Multiply IoU by detection confidence in the first association.")
    lost_buffer_s: float = Field(1.0, ge=0, le=600, description="Seconds for which a lost track can be matched again.")
    direction_weight: float = Field(
        0.2,
        ge=0,
        le=10,
        description="Weight of the angle between a track's direction and the direction to a detection.",
    )
    direction_frames: int = Field(
        3, ge=1, le=100, description="Observations over which a track's direction is measured."
    )
    second_association: bool = Field(False, description="Associate weak detections as ByteTrack does.")


class SortConfig(TrackerSection):
    """SORT (Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016)."""

    name: Literal["sort"] = Field("sort", description=_NAME)
    confidence: float = Field(0.6, ge=0, le=1, description="Detections above this confidence are tracked.")
    match_distance: float = Field(0.7, gt=0, le=1, description="Largest cost of a match (1 - IoU).")
    confirm_hits: int = Field(
        3, ge=1, le=100, description="Consecutive frames in which a new track must be matched before it is reported."
    )
    lost_buffer_s: float = Field(
        0.034, ge=0, le=600, description="Seconds for which a lost track can be matched again; at least one frame."
    )
    reference_rate_hz: float | None = Field(
        None, gt=0, le=1000, description="Frame rate in Hz that the noises refer to; null for the video's own."
    )


class AppearanceFirstConfig(TrackerSection):
    """Fields of the trackers that associate by appearance first, then by overlap."""

    confidence: float = Field(0.6, ge=0, le=1, description="Detections above this confidence are tracked.")
    match_distance: float = Field(0.7, gt=0, le=1, description="Largest cost of a match by overlap (1 - IoU).")
    confirm_hits: int = Field(
        3, ge=1, le=100, description="Consecutive frames in which a new track must be matched before it is reported."
    )
    lost_buffer_s: float = Field(1.0, ge=0, le=600, description="Seconds for which a lost track can be matched again.")
    kalman: KalmanConfig = Field(KalmanConfig(), description="Motion model.")


class DeepSortConfig(AppearanceFirstConfig):
    """DeepSORT (Wojke et al., "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP 2017)."""

    name: Literal["deepsort"] = Field("deepsort", description=_NAME)
    max_distance: float = Field(
        0.2, ge=0, le=2, description="Largest cosine distance of a match between a detection and a track's gallery."
    )
    gallery: int = Field(100, ge=1, le=1000, description="Embeddings stored per track, the latest ones.")


class StrongSortConfig(AppearanceFirstConfig):
    """StrongSORT (Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023)."""

    name: Literal["strongsort"] = Field("strongsort", description=_NAME)
    max_distance: float = Field(
        0.45, ge=0, le=2, description="Largest cost of a match by appearance and motion together."
    )
    appearance_weight: float = Field(
        0.98,
        ge=0,
        le=1,
        description="Weight of the cosine distance in that cost; the rest is the weight of the Mahalanobis distance.",
    )
    smoothing: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Weight of the previous mean in a track's running mean of embeddings. Raised, it changes more "
        "slowly.",
    )
    camera: CameraConfig | None = Field(
        CameraConfig(), description="Estimate of the camera motion, which needs the frames; null for none."
    )


DEFAULT_TRACKER: Final = "bytetrack"
"""The tracker of a section without a name."""

TRACKERS: Final = ("bytetrack", "botsort", "ocsort", "sort", "deepsort", "strongsort")
"""The names of all trackers."""

PUBLISHED: Final = MappingProxyType(
    {
        "confidence_scaling": None,
        "buffered_iou": None,
        "detection_weight": 0.0,
        "predict_unconfirmed": False,
        "kalman": {"reference_rate_hz": None},
    }
)
"""Changes that make ByteTrack the published algorithm."""


def _named(value: Any) -> Any:
    return {"name": DEFAULT_TRACKER, **value} if isinstance(value, dict) else value


TrackerConfig: TypeAlias = (
    ByteTrackConfig | BotSortConfig | OcSortConfig | SortConfig | DeepSortConfig | StrongSortConfig
)
"""The section of any tracker."""


def needs_embeddings(config: TrackerConfig) -> bool:
    """Return whether a tracker uses embeddings."""
    if isinstance(config, BotSortConfig):
        return config.appearance is not None
    return isinstance(config, AppearanceFirstConfig)


AnyTracker = Annotated[TrackerConfig, Field(discriminator="name"), BeforeValidator(_named)]
"""Type of a field with the section of any tracker."""

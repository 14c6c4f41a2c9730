"""The trackers: one section each, told apart by `tracker.name`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from motserve.config.base import Section


class KalmanConfig(Section):
    """Constant-velocity Kalman filter over centre x, centre y, aspect ratio and height."""

    reference_rate_hz: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Frame rate in Hz at which the noises below are meant: one filter step is 1 / rate seconds. null "
        "for the video's own rate, which keeps the filter as calm at 7 Hz as at 30.",
    )
    position_noise: float = Field(
        1 / 20, gt=0, le=1, description="Standard deviation of position per step, as a fraction of box height."
    )
    velocity_noise: float = Field(
        1 / 160, gt=0, le=1, description="Standard deviation of velocity per step, as a fraction of box height."
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
    """The same with noises that grow with time, not with frames.

    A person can turn or stop in a tenth of a second; how often a camera looks changes nothing about that. With a step
    per frame, a camera of few frames a second would expect its people to walk straight on for whole seconds.
    """

    reference_rate_hz: float | None = Field(
        10.0,
        gt=0,
        le=1000,
        description="Frame rate in Hz at which the noises are meant: one filter step is 1 / rate seconds. null for the "
        "video's own rate, as published.",
    )


_PREDICT_UNCONFIRMED = (
    "Let time pass for a one-frame-old track too, so that its second detection tells its speed; false as published."
)
_LEVEL = "Scaling of the thresholds to the detector's own level of confidence; null takes them as they are."
_RECOVERY = "Last association of what is left over, with enlarged boxes; null for none."
_DETECTION_WEIGHT = "Share of the detection in a returned box; the rest is the motion model's estimate."
_NEW_TRACK = "Least confidence that starts a track; scaled by `level`."
_NAME = "Tracking algorithm."


class LevelConfig(Section):
    """Thresholds that follow the detector.

    Detectors differ in how sure they call themselves of a person in plain view: YOLO says 0.8, Faster R-CNN 0.95, and
    a threshold that cuts the doubtful from the one lets everything of the other pass. The tracker therefore measures
    the level, the mean of the confidences weighted by their third power, which the sure ones make nearly alone, over
    the last while, and scales `high_confidence` and `new_track_confidence`, which are meant for the level
    `reference`, by level / reference.
    """

    reference: float = Field(
        0.775, gt=0, le=1, description="Level of confidence that the tracker's thresholds are meant for."
    )
    least: float = Field(
        0.5, gt=0, le=1, description="Level taken at least, so that false alarms alone cannot lower it further."
    )
    memory_s: float = Field(
        30.0, gt=0, le=3600, description="Seconds after which a confidence counts e times less in the level."
    )
    prior: float = Field(
        10.0, gt=0, le=10_000, description="Detections at the level 0.8 that stand for what was before the first frame."
    )


class RecoveryConfig(Section):
    """A last association with enlarged boxes, for low frame rates and sudden turns.

    Reference: Yang et al., "Hard to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by
    Buffering the Matching Space", WACV 2023.
    """

    expansion: float = Field(
        0.5, gt=0, le=5, description="Share of its width and height that a box grows by on each side, at most."
    )
    speed: float = Field(
        5.0, gt=0, le=1000, description="Growth of that share with the time since the track was seen, per second."
    )
    match_distance: float = Field(0.7, gt=0, le=1, description="Largest cost of a match (1 - IoU of the grown boxes).")
    height_ratio: float = Field(
        1.25, ge=1, le=10, description="Largest ratio between the heights of track and detection, either way."
    )


class CameraConfig(Section):
    """How the camera's motion between two frames is estimated: corners outside of people, followed by optical flow."""

    downscale: int = Field(2, ge=1, le=16, description="Factor by which pictures are reduced first.")
    corners: int = Field(400, ge=10, le=10_000, description="Most corners that are followed.")


class AppearanceConfig(Section):
    """How embeddings take part in the first association of BoT-SORT."""

    max_distance: float = Field(0.25, ge=0, le=2, description="Largest cosine distance that counts.")
    max_iou_distance: float = Field(
        0.5, gt=0, le=1, description="Largest 1 - IoU of a pair whose appearance is looked at."
    )
    smoothing: float = Field(
        0.9, ge=0, lt=1, description="Share of the embedding so far in a track's running mean of embeddings."
    )


class TrackerSection(Section):
    """What all trackers share."""

    class_aware: bool = Field(False, description="Match a track only with detections of the class it is of.")
    class_vote: bool = Field(
        True,
        description="Report the class that most of a track's detections had, by confidence, instead of the latest's.",
    )


class CascadeConfig(TrackerSection):
    """What the trackers share that associate confident detections first and others later."""

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
        0.6, ge=0, le=1, description="Detections from here on take part in the first association; scaled by `level`."
    )
    low_confidence: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Detections above this and below `high_confidence` take part in the second association.",
    )
    new_track_confidence: float = Field(0.7, ge=0, le=1, description=_NEW_TRACK)
    match_distance: float = Field(
        0.8, gt=0, le=1, description="Largest cost of a match in the first association (1 - IoU x score)."
    )
    second_match_distance: float = Field(
        0.5, gt=0, le=1, description="Largest cost of a match in the second association (1 - IoU)."
    )
    unconfirmed_match_distance: float = Field(
        0.7, gt=0, le=1, description="Largest cost of a match that confirms a one-frame-old track."
    )
    duplicate_iou: float = Field(
        0.85, gt=0, le=1, description="IoU above which a tracked and a lost track are one; the younger is dropped."
    )
    fuse_score: bool = Field(True, description="Multiply IoU by detection confidence in the first association.")
    lost_buffer_s: float = Field(
        2.0, ge=0, le=600, description="Seconds for which a lost track can still be found again by motion."
    )
    level: LevelConfig | None = Field(None, description=_LEVEL)
    recovery: RecoveryConfig | None = Field(None, description=_RECOVERY)
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
        if self.level is not None and self.new_track_confidence >= self.level.reference:
            raise ValueError(
                f"new_track_confidence {self.new_track_confidence} must be below level.reference "
                f"{self.level.reference}, the level that it is meant for, or nobody would be sure enough; set level to "
                "null to take thresholds as they are"
            )
        return self


class ByteTrackConfig(CascadeConfig):
    """ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022).

    Motion and IoU only, two association stages. With `level`, `recovery` and `kalman.reference_rate_hz` null and
    `detection_weight` 0 and `predict_unconfirmed` false it is the published algorithm.
    """

    name: Literal["bytetrack"] = Field("bytetrack", description=_NAME)
    level: LevelConfig | None = Field(LevelConfig(), description=_LEVEL)
    recovery: RecoveryConfig | None = Field(RecoveryConfig(), description=_RECOVERY)
    detection_weight: float = Field(0.4, ge=0, le=1, description=_DETECTION_WEIGHT)
    predict_unconfirmed: bool = Field(True, description=_PREDICT_UNCONFIRMED)
    kalman: TimedKalmanConfig = Field(TimedKalmanConfig(), description="Motion model.")


class BotSortConfig(CascadeConfig):
    """BoT-SORT (Aharon et al., "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022).

    ByteTrack's associations with width and height in the motion model, compensation of the camera's motion, and
    appearance.
    """

    name: Literal["botsort"] = Field("botsort", description=_NAME)
    camera: CameraConfig | None = Field(
        CameraConfig(), description="Estimate of the camera's motion, which needs the pictures; null for none."
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
    lost_buffer_s: float = Field(
        1.0, ge=0, le=600, description="Seconds for which a lost track can still be found again."
    )
    direction_weight: float = Field(
        0.2, ge=0, le=10, description="Weight of the angle between a track's course and the way to a detection."
    )
    direction_frames: int = Field(3, ge=1, le=100, description="Observations that a track's course looks back on.")
    second_association: bool = Field(False, description="Associate unsure detections as ByteTrack does.")


class SortConfig(TrackerSection):
    """SORT (Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016)."""

    name: Literal["sort"] = Field("sort", description=_NAME)
    confidence: float = Field(0.6, ge=0, le=1, description="Detections above this one count.")
    match_distance: float = Field(0.7, gt=0, le=1, description="Largest cost of a match (1 - IoU).")
    confirm_hits: int = Field(
        3, ge=1, le=100, description="Frames in a row that a track must be matched in before it is reported."
    )
    lost_buffer_s: float = Field(
        0.034, ge=0, le=600, description="Seconds for which a lost track can still be found again; one frame at least."
    )
    reference_rate_hz: float | None = Field(
        None, gt=0, le=1000, description="Frame rate in Hz at which the noises are meant; null for the video's own."
    )


class AppearanceFirstConfig(TrackerSection):
    """What the trackers share that go by appearance first and by overlap then."""

    confidence: float = Field(0.6, ge=0, le=1, description="Detections above this one count.")
    match_distance: float = Field(0.7, gt=0, le=1, description="Largest cost of a match by overlap (1 - IoU).")
    confirm_hits: int = Field(
        3, ge=1, le=100, description="Frames in a row in which a new track must be matched to be reported."
    )
    lost_buffer_s: float = Field(
        1.0, ge=0, le=600, description="Seconds for which a lost track can still be found again."
    )
    kalman: KalmanConfig = Field(KalmanConfig(), description="Motion model.")


class DeepSortConfig(AppearanceFirstConfig):
    """DeepSORT (Wojke et al., "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP 2017)."""

    name: Literal["deepsort"] = Field("deepsort", description=_NAME)
    max_distance: float = Field(
        0.2, ge=0, le=2, description="Largest cosine distance of a match between a detection and a track's gallery."
    )
    gallery: int = Field(100, ge=1, le=1000, description="Embeddings kept of each track, the latest ones.")


class StrongSortConfig(AppearanceFirstConfig):
    """StrongSORT (Du et al., "StrongSORT: Make DeepSORT Great Again", IEEE Transactions on Multimedia, 2023)."""

    name: Literal["strongsort"] = Field("strongsort", description=_NAME)
    max_distance: float = Field(
        0.45, ge=0, le=2, description="Largest cost of a match by appearance and motion together."
    )
    appearance_weight: float = Field(
        0.98, ge=0, le=1, description="Share of the cosine distance in that cost; the rest is Mahalanobis distance."
    )
    smoothing: float = Field(
        0.9, ge=0, lt=1, description="Share of the embedding so far in a track's running mean of embeddings."
    )
    camera: CameraConfig | None = Field(
        CameraConfig(), description="Estimate of the camera's motion, which needs the pictures; null for none."
    )


DEFAULT_TRACKER: Final = "bytetrack"
"""The tracker that a section without a name is about."""

TRACKERS: Final = ("bytetrack", "botsort", "ocsort", "sort", "deepsort", "strongsort")
"""The names of all trackers."""

PUBLISHED: Final = MappingProxyType(
    {
        "level": None,
        "recovery": None,
        "detection_weight": 0.0,
        "predict_unconfirmed": False,
        "kalman": {"reference_rate_hz": None},
    }
)
"""What makes ByteTrack the published algorithm."""


def _named(value: Any) -> Any:
    return {"name": DEFAULT_TRACKER, **value} if isinstance(value, dict) else value


TrackerConfig: TypeAlias = (
    ByteTrackConfig | BotSortConfig | OcSortConfig | SortConfig | DeepSortConfig | StrongSortConfig
)
"""The section of any tracker."""


def needs_embeddings(config: TrackerConfig) -> bool:
    """Tell whether a tracker is to be told what people look like."""
    if isinstance(config, BotSortConfig):
        return config.appearance is not None
    return isinstance(config, AppearanceFirstConfig)


AnyTracker = Annotated[TrackerConfig, Field(discriminator="name"), BeforeValidator(_named)]
"""A field that takes the section of any tracker."""

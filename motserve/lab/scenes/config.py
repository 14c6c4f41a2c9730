"""The settings of a rendered scene."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SceneConfig(BaseModel):
    """One rendered scene of walking people. The defaults are those of the demo clip, except for its seed.

    Equal configurations give the same pictures, byte for byte, with the same versions of OpenCV and NumPy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    seed: int = Field(17, ge=0, description="Seed of all random numbers of the scene.")
    width: int = Field(640, ge=64, le=7680, description="Width of the picture in pixels.")
    height: int = Field(360, ge=64, le=4320, description="Height of the picture in pixels.")
    duration_s: float = Field(12.0, gt=0, le=86400, description="Length of the clip in seconds.")
    rate_hz: float = Field(25.0, gt=0, le=240, description="Frames per second.")
    people: int = Field(5, ge=0, le=200, description="Number of identities.")
    returning: float = Field(
        0.5, ge=0, le=1, description="Share of the people who leave the picture and return repeatedly."
    )
    stopping: float = Field(0.4, ge=0, le=1, description="Share of visits in which a person stands still for a while.")
    turning: float = Field(
        0.25, ge=0, le=1, description="Share of visits in which a person turns round and leaves on the side of entry."
    )
    absence_min_s: float = Field(2.0, ge=0, le=3600, description="Shortest absence of a returning person in seconds.")
    absence_max_s: float = Field(5.0, ge=0, le=3600, description="Longest absence of a returning person in seconds.")
    far_height: float = Field(
        0.36, gt=0.01, le=2, description="Height of the farthest people as a fraction of the picture's height."
    )
    near_height: float = Field(
        0.66, gt=0.01, le=2, description="Height of the nearest people as a fraction of the picture's height."
    )
    pillars: int = Field(1, ge=0, le=8, description="Pillars in front of the people.")
    furniture: int = Field(2, ge=0, le=8, description="Benches and planters among the people.")
    shake: float = Field(
        0.005, ge=0, le=0.05, description="Largest displacement of the camera, as a fraction of the picture's height."
    )
    shake_degrees: float = Field(0.15, ge=0, le=5, description="Largest rotation of the camera in degrees.")
    noise: float = Field(2.0, ge=0, le=40, description="Standard deviation of the sensor noise in grey levels.")
    exposure: float = Field(1.0, ge=0.2, le=2, description="Brightness; 1 is a correctly exposed picture.")

    @model_validator(mode="after")
    def _ordered(self) -> SceneConfig:
        if not self.far_height < self.near_height:
            raise ValueError(
                f"far_height must be below near_height, got {self.far_height} and {self.near_height}; "
                "equal heights leave no perspective"
            )
        if self.absence_min_s > self.absence_max_s:
            raise ValueError(
                f"absence_min_s must not exceed absence_max_s, got {self.absence_min_s} and {self.absence_max_s}"
            )
        return self

    @property
    def frames(self) -> int:
        """Number of frames, at least one."""
        return max(1, round(self.duration_s * self.rate_hz))

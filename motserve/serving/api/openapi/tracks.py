"""The JSON document of tracks, which is written line by line and not from these models: they describe it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reidentification(_Written):
    """Why a new track has the identity of a person who was there before."""

    track: int = Field(description="The previous track of the identity.", ge=1)
    distance: float = Field(description="Cosine distance between the embeddings.")
    gap_s: float = Field(description="Seconds for which the person was absent.")
    moved: float = Field(description="Distance that the person moved meanwhile, in body heights.", ge=0)


class TrackedPerson(_Written):
    """A person in a frame."""

    id: int = Field(description="Identity of the person in this video.", ge=1)
    track: int = Field(description="Track of the person.", ge=1)
    box: list[float] = Field(description="Left, top, right, bottom in pixels.", min_length=4, max_length=4)
    confidence: float = Field(description="Confidence of the detection.", ge=0, le=1)
    class_: str = Field(alias="class", description="Class of the detector.", examples=["person"])
    state: Literal["measured", "predicted", "interpolated"] = Field(description="Whether the box is a detection.")
    reidentified_from: Reidentification | None = Field(
        None, description="In the first frame of a track that got the identity of a returning person."
    )


class Frame(_Written):
    """The people of a frame."""

    frame: int = Field(description="Number of the frame, from 0.", ge=0)
    timestamp: float = Field(description="Time in the video in seconds.")
    tracks: list[TrackedPerson]


class Summary(_Written):
    """Counts of a video."""

    status: Literal["queued", "running", "done", "failed"] = Field(description="Status of the video.")
    error: str | None = Field(None, description="Why the video failed.")
    frames: int = Field(description="Number of tracked frames.", ge=0)
    frames_damaged: int = Field(description="Number of frames that could not be decoded, or only with damage.", ge=0)
    identities: int = Field(description="Number of different people.", ge=0)
    embeddings: int = Field(description="Number of embeddings computed.", ge=0)
    links: int = Field(description="Number of times a returning person got the previous identity.", ge=0)
    fps: float = Field(description="Frames tracked per second.", ge=0)


class TrackedVideo(_Written):
    """The tracks of a video."""

    video: dict[str, Any] = Field(description="`name`, and the properties of the file once they are known.")
    models: dict[str, Any] = Field(description="The models that track the video; empty until it runs.")
    summary: Summary
    frames: list[Frame] = Field(description="The frames so far.")

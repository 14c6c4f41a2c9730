"""What goes over the wire: the bodies of requests and answers, and their making from domain types."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from motserve.people.identity_store import Identity
from motserve.serving.stores import Job

VIDEOS = "/v1/videos"
IDENTITIES = "/v1/identities"
MAX_NUMBER = 2**63 - 1
"""Largest number that the stores can hold."""


class Links(BaseModel):
    """Where the parts of a video are."""

    self: str = Field(examples=["/v1/videos/3f2b8a"])
    tracks: str = Field(examples=["/v1/videos/3f2b8a/tracks"])
    annotated: str = Field(examples=["/v1/videos/3f2b8a/annotated.mp4"])

    @classmethod
    def of(cls, video_id: str) -> Links:
        """Return the links of a video."""
        path = f"{VIDEOS}/{video_id}"
        return cls(self=path, tracks=f"{path}/tracks", annotated=f"{path}/annotated.mp4")


class VideoUrl(BaseModel):
    """A video that the service can reach by itself."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        description="`file://` URL below one of `serving.allowed_roots`.", examples=["file:///videos/a.mp4"]
    )


class VideoCreated(BaseModel):
    """Answer to a posted video."""

    id: str = Field(description="ID of the video.", examples=["3f2b8a"])
    status: Literal["queued"] = "queued"
    links: Links


class Failure(BaseModel):
    """Why a video failed."""

    type: str = Field(examples=["InvalidVideo"])
    message: str = Field(examples=["clip.mp4 is cut off: it declares 120 frames and ends after 97"])


class VideoDetails(BaseModel):
    """What was posted."""

    width: int = Field(description="Pixels, after rotation.")
    height: int = Field(description="Pixels, after rotation.")
    rate_hz: float | None = Field(description="Average frame rate in Hz.")
    frame_count: int | None = Field(description="Number of frames as the container tells it.")
    duration_s: float | None = Field(description="Duration in seconds as the container tells it.")
    codec: str = Field(examples=["h264"])
    pixel_aspect: float = Field(1.0, description="Width of a pixel divided by its height; boxes are in stored pixels.")


class ModelDetails(BaseModel):
    """Which weights a model had."""

    name: str = Field(examples=["yolov8s.pt"])
    sha256: str
    fallback: str = Field(description="Why preferred weights could not be had; empty where the first choice was used.")


class Models(BaseModel):
    """The two models."""

    detector: ModelDetails
    reid: ModelDetails | None = Field(None, description="None where re-identification is off.")


class Switch(BaseModel):
    """A change of the detector while a video was being tracked."""

    frame: int = Field(description="First frame that the new detector has seen, counted from 0.", examples=[128])
    detector: ModelDetails


class UsedModels(Models):
    """The models behind the tracks of a video."""

    detector: ModelDetails = Field(description="The detector, at the beginning where there are switches.")
    switches: list[Switch] = Field([], description="Changes of the detector, in order of their frames.")


class Reloaded(BaseModel):
    """What became of one model when the registry was asked for a newer one."""

    changed: bool = Field(description="Whether new videos get another model than before.")
    before: ModelDetails
    now: ModelDetails


class ReloadedModels(BaseModel):
    """What became of the models."""

    detector: Reloaded
    reid: Reloaded | None = Field(None, description="None where re-identification is off.")


class VideoStatus(BaseModel):
    """State of a video."""

    id: str
    name: str = Field(description="File name that the client gave.")
    status: Literal["queued", "running", "done", "failed"]
    created_at: datetime
    frames_done: int = Field(description="Frames tracked.")
    frames_total: int | None = Field(description="Frames of the video as the container tells it.")
    frames_damaged: int = Field(description="Frames that could not be decoded, or were decoded with damage.")
    progress: float | None = Field(description="Share of the frames that is tracked, in [0, 1].", ge=0, le=1)
    fps: float = Field(description="Frames tracked per second.")
    identities: int = Field(description="Different people so far.")
    embeddings: int = Field(description="Embeddings computed.")
    links_made: int = Field(description="Returning people who were given their old identity.")
    resumed: int = Field(description="Times that another session took the video up, its machine drained or lost.")
    video: VideoDetails | None
    models: UsedModels | None
    error: Failure | None
    links: Links

    @classmethod
    def of(cls, job: Job) -> VideoStatus:
        """Return the state of a job."""
        progress = 1.0 if job.status == "done" else None
        if progress is None and job.frames_total:
            progress = min(1.0, job.frames_done / job.frames_total)
        return cls(
            id=job.id,
            name=job.name,
            status=job.status,
            created_at=datetime.fromtimestamp(job.created_at, timezone.utc),
            frames_done=job.frames_done,
            frames_total=job.frames_total,
            frames_damaged=job.frames_damaged,
            progress=progress,
            fps=job.fps,
            identities=job.identities,
            embeddings=job.embeddings,
            links_made=job.links,
            resumed=job.attempt,
            video=VideoDetails(**job.video) if job.video else None,
            models=UsedModels(**job.models) if job.models else None,
            error=Failure(**job.error) if job.error else None,
            links=Links.of(job.id),
        )


class VideoList(BaseModel):
    """A page of videos, newest first."""

    videos: list[VideoStatus]
    next: str | None = Field(description="Value of `after` for the next page; None on the last one.")


class PictureSearch(BaseModel):
    """What may be said of a search with a picture."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(10, ge=1, description="Most matches in the answer; the service may give fewer.")
    max_distance: float | None = Field(
        None, ge=0, le=2, description="Largest cosine distance of a match; all distances where it is left out."
    )


class IdentitySearch(PictureSearch):
    """A person of a video to search for in others, by identity or by track."""

    video_id: str = Field(description="ID of a video that is done.", examples=["3f2b8a"])
    identity: int | None = Field(
        None, ge=1, le=MAX_NUMBER, description="`id` in the tracks of the video.", examples=[3]
    )
    track: int | None = Field(
        None, ge=1, le=MAX_NUMBER, description="`track` in the tracks of the video, instead of `identity`."
    )
    include_same_video: bool = Field(False, description="Whether others in the video of the person may match too.")

    @model_validator(mode="after")
    def _one_person(self) -> IdentitySearch:
        if (self.identity is None) == (self.track is None):
            raise ValueError("give either `identity` or `track`")
        return self


class IdentityDetails(BaseModel):
    """A remembered person of a finished video."""

    id: int = Field(description="Number among the people of all videos; never given again.", examples=[4711])
    video_id: str = Field(examples=["3f2b8a"])
    video_name: str = Field(description="File name that the client gave.", examples=["lobby.mp4"])
    identity: int = Field(description="`id` in the tracks of the video.", examples=[3])
    first_seen_s: float = Field(description="Time in the video of the first sighting that was embedded, in seconds.")
    last_seen_s: float = Field(description="Time in the video of the last sighting that was embedded, in seconds.")
    thumbnail: str = Field(description="Link to a picture.", examples=["/v1/identities/4711/thumbnail.jpg"])

    @classmethod
    def of(cls, identity: Identity, job: Job) -> IdentityDetails:
        """Return what the wire says of an identity of a video."""
        return cls(
            id=identity.id,
            video_id=identity.video_id,
            video_name=job.name,
            identity=identity.identity,
            first_seen_s=identity.first_seen_s,
            last_seen_s=identity.last_seen_s,
            thumbnail=f"{IDENTITIES}/{identity.id}/thumbnail.jpg",
        )


class IdentityMatch(IdentityDetails):
    """Somebody who looks alike. Whether it is the same person is for whoever looks at it to say."""

    distance: float = Field(
        description="Cosine distance between the closest embeddings: 0 for the same picture, up to 2.", examples=[0.18]
    )

    @classmethod
    def near(cls, identity: Identity, job: Job, distance: float) -> IdentityMatch:
        """Return a match."""
        # what comes after the fourth decimal is rounding of half precision
        return cls(**IdentityDetails.of(identity, job).model_dump(), distance=round(distance, 4))


class IdentityMatches(BaseModel):
    """People who look most like the one searched for, the most alike first."""

    matches: list[IdentityMatch]
    query: IdentityDetails | None = Field(description="The person searched for; None for a picture.")
    model: str = Field(
        description="What made the embeddings compared: checksum of the weights, crop size, input.",
        examples=["5e88…/256x128/imagenet"],
    )


class Health(BaseModel):
    """A part of the service is alive or ready."""

    status: Literal["ok"] = "ok"
    models: Models | None = None


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = Field(examples=["urn:motserve:problem:invalid-video"])
    title: str = Field(examples=["Invalid video"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["notes.txt is not a video in a known container"])
    errors: list[dict[str, Any]] | None = Field(None, description="Fields of the request that are not valid.")


def summary_of(job: Job) -> dict[str, Any]:
    """Return the counts that head a JSON document of tracks."""
    failure = {"error": job.error["message"]} if job.error else {}
    return {
        "status": job.status,
        **failure,
        "frames": job.frames_done,
        "frames_damaged": job.frames_damaged,
        "identities": job.identities,
        "embeddings": job.embeddings,
        "links": job.links,
        "fps": job.fps,
    }

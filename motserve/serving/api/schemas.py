"""Request and response bodies of the HTTP API, and their conversion from domain types."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from motserve.people.identity_store import Identity
from motserve.serving.stores import Job

VIDEOS = "/v1/videos"
IDENTITIES = "/v1/identities"
MAX_NUMBER = 2**63 - 1
"""Largest integer that SQLite can store."""

_FILE_URL = r"^file://(localhost)?/([^\x00-\x20\x7f%?#]|%(0[1-9A-Fa-f]|[1-9A-Fa-f][0-9A-Fa-f]))*$"
# in the document only: the service itself says which of these is wrong
_ONE_PERSON: list[JsonValue] = [
    {"required": [given], "properties": {given: {"type": "integer"}, other: {"type": "null"}}}
    for given, other in (("identity", "track"), ("track", "identity"))
]


class Links(BaseModel):
    """Paths of the resources of a video."""

    self: str = Field(description="Status of the video.", examples=["/v1/videos/3f2b8a"])
    tracks: str = Field(description="Tracks of the video.", examples=["/v1/videos/3f2b8a/tracks"])
    annotated: str = Field(description="Annotated video.", examples=["/v1/videos/3f2b8a/annotated.mp4"])

    @classmethod
    def of(cls, video_id: str) -> Links:
        """Return the links of a video."""
        path = f"{VIDEOS}/{video_id}"
        return cls(self=path, tracks=f"{path}/tracks", annotated=f"{path}/annotated.mp4")


class VideoUrl(BaseModel):
    """A video on a disk that the service can read."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        description="`file://` URL of a file in one of the folders of `serving.allowed_roots`.",
        examples=["file:///videos/a.mp4"],
        json_schema_extra={"pattern": _FILE_URL},
    )


class VideoCreated(BaseModel):
    """Response to a posted video."""

    id: str = Field(description="ID of the video.", examples=["3f2b8a"])
    status: Literal["queued"] = "queued"
    links: Links


class Failure(BaseModel):
    """Why a video failed."""

    type: str = Field(description="Class of the error.", examples=["InvalidVideo"])
    message: str = Field(
        description="Message of the error.", examples=["clip.mp4 is cut off: it declares 120 frames and ends after 97"]
    )


class VideoDetails(BaseModel):
    """Properties of the posted video file."""

    width: int = Field(description="Pixels, after rotation.")
    height: int = Field(description="Pixels, after rotation.")
    rate_hz: float | None = Field(description="Average frame rate in Hz.")
    frame_count: int | None = Field(description="Number of frames that the container declares.")
    duration_s: float | None = Field(description="Duration in seconds that the container declares.")
    codec: str = Field(description="Video codec.", examples=["h264"])
    pixel_aspect: float = Field(1.0, description="Width of a pixel divided by its height; boxes are in stored pixels.")


class ModelDetails(BaseModel):
    """The weights of a model."""

    name: str = Field(description="Name of the weights.", examples=["yolov8s.pt"])
    sha256: str = Field(description="Checksum of the weights.")
    fallback: str = Field(
        description="Why weights that come earlier in the configuration were not used; empty if the first were used."
    )
    backend: str = Field(
        "",
        description="Library that runs the network and its version; empty for exported formats.",
        examples=["openvino 2026.4.1"],
    )


class Models(BaseModel):
    """The models of detector and embedder."""

    detector: ModelDetails
    reid: ModelDetails | None = Field(None, description="The embedder; null if re-identification is off.")


class Switch(BaseModel):
    """A change of the detector while a video was being tracked."""

    frame: int = Field(description="First frame of the new detector, counted from 0.", examples=[128])
    detector: ModelDetails


class UsedModels(Models):
    """The models that tracked a video."""

    detector: ModelDetails = Field(description="The detector of the first frame.")
    switches: list[Switch] = Field([], description="Changes of the detector, in order of their frames.")


class Reloaded(BaseModel):
    """Result of a reload for one model."""

    changed: bool = Field(description="Whether the active model has changed.")
    before: ModelDetails = Field(description="Active model before the reload.")
    now: ModelDetails = Field(description="Active model after the reload.")


class ReloadedModels(BaseModel):
    """Result of a reload."""

    detector: Reloaded
    reid: Reloaded | None = Field(None, description="The embedder; null if re-identification is off.")


class VideoStatus(BaseModel):
    """Status and progress of a video."""

    id: str = Field(description="ID of the video.")
    name: str = Field(description="File name that the client gave.")
    status: Literal["queued", "running", "done", "failed"] = Field(description="Status of the video.")
    created_at: datetime = Field(description="Time of the post, UTC.")
    frames_done: int = Field(description="Number of tracked frames.")
    frames_total: int | None = Field(description="Number of frames that the container declares.")
    frames_damaged: int = Field(description="Number of frames that could not be decoded, or only with damage.")
    progress: float | None = Field(description="Tracked share of the frames, in [0, 1].", ge=0, le=1)
    fps: float = Field(description="Frames tracked per second.")
    identities: int = Field(description="Number of different people so far.")
    embeddings: int = Field(description="Number of embeddings computed.")
    links_made: int = Field(description="Number of times a returning person got the previous identity.")
    resumed: int = Field(description="Times that another session resumed the video after its node was drained or lost.")
    video: VideoDetails | None = Field(description="Properties of the video file; null until they are known.")
    models: UsedModels | None = Field(description="The models that track the video; null until it runs.")
    error: Failure | None = Field(description="Why the video failed; null otherwise.")
    links: Links

    @classmethod
    def of(cls, job: Job) -> VideoStatus:
        """Return the status of a job."""
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
    next: str | None = Field(description="Value of `after` for the next page; null on the last page.")


class PictureSearch(BaseModel):
    """Parameters of a search with a picture."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(
        10, ge=1, description="Most matches to return; capped by `serving.identities.max_results` of the service."
    )
    max_distance: float | None = Field(
        None,
        ge=0,
        le=2,
        description="Largest cosine distance of a match; lower is stricter. Without it, any distance.",
    )


class IdentitySearch(PictureSearch):
    """Search in other videos for a person of a finished video, given by identity or by track."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _ONE_PERSON})

    video_id: str = Field(description="ID of a video with status `done`.", examples=["3f2b8a"])
    identity: int | None = Field(
        None, ge=1, le=MAX_NUMBER, description="Identity of the person: `id` in the tracks of the video.", examples=[3]
    )
    track: int | None = Field(
        None, ge=1, le=MAX_NUMBER, description="Track of the person, `track` in the tracks; instead of `identity`."
    )
    include_same_video: bool = Field(
        False, description="Whether other identities of the same video may be among the matches."
    )

    @model_validator(mode="after")
    def _one_person(self) -> IdentitySearch:
        if (self.identity is None) == (self.track is None):
            raise ValueError("give either `identity` or `track`")
        return self


class IdentityDetails(BaseModel):
    """A person of a finished video, stored in the identity index."""

    id: int = Field(description="ID across all videos; never reused.", examples=[4711])
    video_id: str = Field(description="ID of the video.", examples=["3f2b8a"])
    video_name: str = Field(description="File name of the video that the client gave.", examples=["lobby.mp4"])
    identity: int = Field(description="Identity in this video: `id` in its tracks.", examples=[3])
    first_seen_s: float = Field(description="Time in the video of the first embedded crop, in seconds.")
    last_seen_s: float = Field(description="Time in the video of the last embedded crop, in seconds.")
    thumbnail: str = Field(description="Path of a JPEG of the person.", examples=["/v1/identities/4711/thumbnail.jpg"])

    @classmethod
    def of(cls, identity: Identity, job: Job) -> IdentityDetails:
        """Return the details of an identity of a video."""
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
    """A person with a similar appearance; a candidate that a human should confirm."""

    distance: float = Field(
        description="Cosine distance of the closest two embeddings, in [0, 2]; 0 for the same picture.", examples=[0.18]
    )

    @classmethod
    def near(cls, identity: Identity, job: Job, distance: float) -> IdentityMatch:
        """Return an identity as a match."""
        # half precision is exact to about four decimals
        return cls(**IdentityDetails.of(identity, job).model_dump(), distance=round(distance, 4))


class IdentityMatches(BaseModel):
    """Result of a search for a person."""

    matches: list[IdentityMatch] = Field(description="The most similar people, the smallest distance first.")
    query: IdentityDetails | None = Field(description="The person searched for; null for a search with a picture.")
    model: str = Field(
        description="Embedding model of the search: checksum of the weights, crop size, input normalization.",
        examples=["5e88…/256x128/imagenet"],
    )


class Health(BaseModel):
    """Result of a health check."""

    status: Literal["ok"] = "ok"
    models: Models | None = Field(None, description="The active models; only in the readiness check.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="URN of the kind of error.", examples=["urn:motserve:problem:invalid-video"])
    title: str = Field(description="Kind of error in words.", examples=["Invalid video"])
    status: int = Field(description="HTTP status.", examples=[422])
    detail: str = Field(
        description="What is wrong with this request, and what to do about it.",
        examples=["notes.txt is not a video in a container that is known here"],
    )
    errors: list[dict[str, Any]] | None = Field(None, description="Invalid fields of the request.")


def summary_of(job: Job) -> dict[str, Any]:
    """Return the status and the counts at the top of a JSON document of tracks."""
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

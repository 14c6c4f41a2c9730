"""The section of the configuration that describes decoding and encoding of video."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from motserve.config.annotation import AnnotationConfig
from motserve.config.base import Section


class PipelineConfig(Section):
    """How frames move from the decoder to the detector."""

    chunk_size: int = Field(
        8, ge=1, le=64, description="Frames in one request to the detector. Raised, throughput and latency grow."
    )
    first_chunk_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Frames in the first request of a video; each further request has twice as many as the one before, "
        "up to `chunk_size`. Lowered, the first tracks come earlier.",
    )
    max_chunk_bytes: int = Field(
        24 << 20,
        ge=1,
        le=1 << 40,
        description="Largest size in bytes of the frames of one request, unless it is one frame: larger frames come in "
        "smaller chunks, so that a video in 8K needs little more memory than one in 1080p.",
    )
    window: int = Field(
        2,
        ge=1,
        le=16,
        description="Requests of one video in flight at the detector. Raised, the detector idles less and more frames "
        "are in memory.",
    )
    silence_s: float = Field(
        10.0,
        ge=0,
        le=86400,
        description="Seconds in which the picture moves and the bundled detector finds nobody, after which a warning "
        "is logged, once per video. 0 for no warning.",
    )


class VideoConfig(Section):
    """Decoding and encoding."""

    max_pixels: int = Field(
        3840 * 2160 * 4,
        ge=1024,
        le=1 << 30,
        description="Largest accepted frame in pixels; a video with larger frames is refused.",
    )
    max_frames: int = Field(
        1_000_000,
        ge=1,
        le=1_000_000_000,
        description="Largest accepted number of frames of a video; a longer one is refused.",
    )
    max_damaged_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest accepted share of frames that cannot be decoded; a file with more is refused at its end. "
        "Raise it for recordings over unreliable links; 0 refuses any damage.",
    )
    max_clock_jump_s: float = Field(
        10.0,
        gt=0,
        le=86400,
        description="Longest step forward in seconds that counts as a pause, in formats whose clock may restart within "
        "a file (MPEG-TS, MPEG-PS, Ogg). A longer one counts as one frame. Raise it for recordings with longer "
        "pauses.",
    )
    image_folder_rate_hz: float = Field(
        30.0, gt=0, le=1000, description="Frame rate in Hz of an image folder without a `seqinfo.ini`."
    )
    download_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Time in seconds that the server of a video at an HTTP address may take to accept the connection "
        "or to send the next part. After it the download fails.",
    )
    crf: int = Field(
        23,
        ge=0,
        le=51,
        description="H.264 constant rate factor of annotated video; lowered, quality and file size grow.",
    )
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = Field(
        "veryfast", description="H.264 speed preset of annotated video; slower ones give smaller files."
    )
    annotation: AnnotationConfig = Field(AnnotationConfig(), description="What annotated video shows.")

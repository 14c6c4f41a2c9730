"""The sections of the configuration that describe how posted videos and pictures are received and checked."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section


class UploadsConfig(Section):
    """Limits of the speed and number of request bodies."""

    max_concurrent: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Largest number of videos and pictures that an ingress replica receives at a time; further ones "
        "get 503 with Retry-After. Below `ingress.max_ongoing_requests`, other requests are still answered.",
    )
    max_per_client: int = Field(
        16,
        ge=1,
        le=10_000,
        description="Largest number of videos and pictures that an ingress replica receives from one client address at "
        "a time; further ones get 503 with Retry-After. Behind a proxy all clients may have its address: see "
        "docs/service.md.",
    )
    idle_s: float = Field(
        15.0, gt=0, le=3600, description="Longest pause in seconds between two parts of a body; then it gets 408."
    )
    min_bytes_per_s: int = Field(
        4096,
        ge=0,
        le=1 << 30,
        description="Least speed of a body in bytes per second, after its first `idle_s` seconds; slower ones get 408.",
    )


class ProbeConfig(Section):
    """Check of a posted video before it is accepted, in a process of its own."""

    parallel: int = Field(
        2,
        ge=1,
        le=100,
        description="Largest number of videos that an ingress replica checks at a time; further ones wait. Raised, "
        "many small videos are accepted sooner, and hostile ones can use more memory.",
    )
    wait_s: float = Field(
        60.0,
        gt=0,
        le=86400,
        description="Seconds that a received video waits until its check begins; then it gets 503 with Retry-After. "
        "Raised, more videos posted at once are accepted, and their clients wait longer.",
    )
    memory_bytes: int = Field(
        2 << 30,
        ge=256 << 20,
        le=1 << 40,
        description="Largest memory in bytes of one check; a video that needs more is refused. Lowered, videos with "
        "very large frames are refused.",
    )
    timeout_s: float = Field(
        30.0,
        gt=0,
        le=86400,
        description="Seconds that a check may take, in addition to the time for reading the file; a video that takes "
        "longer is refused.",
    )
    bytes_per_s: int = Field(
        10 << 20,
        ge=1024,
        le=1 << 40,
        description="Least speed in bytes per second at which a check reads a file. Lower it for slow storage.",
    )

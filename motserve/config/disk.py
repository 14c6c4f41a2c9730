"""The section of the configuration that says how much room disks must have."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section


class DiskConfig(Section):
    """Room on the disks that results are written to."""

    min_free_bytes: int = Field(
        32 << 20,
        ge=0,
        le=1 << 50,
        description="Least free space in bytes with which work begins: a command that writes results, a video that is "
        "posted. 0 begins whatever is free.",
    )
    reserve_bytes: int = Field(
        8 << 20,
        ge=0,
        le=1 << 50,
        description="Free space in bytes below which the service ends a running video as failed, while there is room "
        "to record why.",
    )
    annotated_share: float = Field(
        0.1,
        ge=0,
        le=10,
        description="Least size of an annotated video that is expected, as a share of the video file; that much must "
        "be free as well before one is asked for.",
    )

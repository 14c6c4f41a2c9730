"""The section of the configuration that describes the free space required on disks."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section


class DiskConfig(Section):
    """Free space on the disks that results are written to."""

    min_free_bytes: int = Field(
        32 << 20,
        ge=0,
        le=1 << 50,
        description="Free space in bytes that is required before a command writes results or the service accepts a "
        "video; 0 requires none.",
    )
    reserve_bytes: int = Field(
        8 << 20,
        ge=0,
        le=1 << 50,
        description="Free space in bytes below which a running video of the service waits for room; the job store "
        "needs it to record what happens.",
    )
    wait_s: float = Field(
        600.0,
        ge=0,
        le=86400,
        description="Seconds that a running video of the service waits for room on the disk before it fails, and "
        "that it goes on while another process locks the job store.",
    )
    annotated_share: float = Field(
        0.1,
        ge=0,
        le=10,
        description="Smallest expected size of an annotated video, as a share of the video file; so much free space is "
        "required in addition before one is made.",
    )
    detections_cache_bytes: int = Field(
        2 << 30,
        ge=0,
        le=1 << 50,
        description="Size in bytes of all detections of whole videos that are cached in `cache_dir`, so that another "
        "tracker on the same video needs no detector; the longest unused are removed first. 0 caches none.",
    )

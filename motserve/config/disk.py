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
        description="Free space in bytes below which the service ends a running video as failed, while the record of "
        "the failure still fits.",
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

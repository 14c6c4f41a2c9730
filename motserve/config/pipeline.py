"""The section of the configuration that describes how frames reach the detector."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section


class PipelineConfig(Section):
    """How frames move from the decoder to the detector."""

    chunk_size: int = Field(
        8, ge=1, le=64, description="Frames in one request to the detector. Raised, throughput and latency grow."
    )
    window: int = Field(
        2,
        ge=1,
        le=16,
        description="Requests of one video in flight at the detector. Raised, the detector idles less and more frames "
        "are in memory.",
    )

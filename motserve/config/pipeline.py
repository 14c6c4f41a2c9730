"""The section of the configuration that describes how frames reach the detector."""

from __future__ import annotations

from pydantic import Field

from motserve.config.base import Section


class PipelineConfig(Section):
    """How frames move from the decoder to the detector."""

    chunk_size: int = Field(8, ge=1, le=64, description="Frames sent to the detector as one request.")
    window: int = Field(2, ge=1, le=16, description="Chunks of one video in flight at the detector.")

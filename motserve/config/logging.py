"""The section of the configuration that describes logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from motserve.config.base import Section


class LoggingConfig(Section):
    """Structured logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest severity that is logged.")
    format: Literal["json", "text"] = Field(
        "json", description="`json` for one JSON object per line, `text` for plain lines."
    )

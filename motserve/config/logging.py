"""The section of the configuration that describes logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from motserve.config.base import Section


class LoggingConfig(Section):
    """Structured logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severity written.")
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for people.")

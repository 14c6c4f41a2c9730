"""Schema of `args:` in `serve_config.yaml`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from motserve.config.paths import LocalPath


class ServeArgs(BaseModel):
    """Arguments of the Ray Serve application."""

    model_config = ConfigDict(extra="forbid")

    config: list[LocalPath] = Field([], description="Configuration files (YAML); later files override earlier ones.")
    settings: dict[str, Any] = Field({}, description="Configuration as a mapping; it overrides the files.")

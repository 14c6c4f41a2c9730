"""What `args:` of `serve_config.yaml` may hold."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from motserve.config.paths import LocalPath


class ServeArgs(BaseModel):
    """Arguments of the application."""

    model_config = ConfigDict(extra="forbid")

    config: list[LocalPath] = Field([], description="YAML files with parts of the configuration; later ones win.")
    settings: dict[str, Any] = Field({}, description="A part of the configuration; it wins over the files.")

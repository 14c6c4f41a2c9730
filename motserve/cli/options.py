"""Options that commands share, and the reading of the configuration behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from motserve.config import Config, load_config, parse_overrides
from motserve.logs import setup_logging

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="YAML file with a part of the configuration; may be given several times."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One setting, such as detector.weights=a.pt; may be given several times."),
]

_QUIET: dict[str, Any] = {"logging": {"level": "WARNING", "format": "text"}}
"""In a terminal the progress bar tells how it goes; files, environment and `--set` win over this."""


def read_config(layers: Sequence[Path | Mapping[str, Any]] | None, overrides: list[str] | None) -> Config:
    """Build the configuration from files, or mappings, and settings, and set up the logs by it."""
    config = load_config([_QUIET, *(layers or [])], parse_overrides(overrides or []))
    setup_logging(config.logging)
    return config

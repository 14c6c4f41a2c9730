"""Reading of YAML files that hold settings of one kind."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from motserve.config.sections import Section
from motserve.errors import InvalidConfig

Settings = TypeVar("Settings", bound=Section)


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """Read settings from YAML; what the file does not say has its default.

    Args:
        path: The file.
        kind: What it describes.

    Raises:
        InvalidConfig: The file cannot be read, a key is unknown or a value out of its bounds.
    """
    try:
        return kind(**(yaml.safe_load(path.read_text(encoding="utf-8")) or {}))
    except OSError as error:
        raise InvalidConfig(f"cannot read configuration file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValidationError) as error:
        raise InvalidConfig(f"configuration file {path} is not valid: {' '.join(str(error).split())}") from error

"""Where real videos, annotations and models are that the tree does not carry."""

from __future__ import annotations

import os
from pathlib import Path

NO_DATA = "MOTSERVE_DATA, the folder of real videos and models, is not set"
"""Why tests of real data are skipped."""


def real_data() -> Path | None:
    """The folder in MOTSERVE_DATA, None if the variable is not set or empty."""
    folder = os.environ.get("MOTSERVE_DATA")
    return Path(folder) if folder else None

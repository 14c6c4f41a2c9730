"""Starts the command of a training job, or says in one sentence which extra it needs."""

from __future__ import annotations

import importlib
import sys

from motserve.errors import MissingExtra
from motserve.models.extras import required_extra


def start(job: str) -> int:
    """Run `main` of a job's command.

    Args:
        job: Package of the job, such as `training.detector`.

    Returns:
        The exit code: that of the command, 2 where a package of the extra `train` is missing.
    """
    try:
        with required_extra("train", f"python -m {job}"):
            command = importlib.import_module(f"{job}.command")
    except MissingExtra as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return int(command.main())

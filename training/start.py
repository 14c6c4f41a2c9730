"""Starts the command of a training job, or says in one sentence which extra it needs."""

from __future__ import annotations

import gc
import importlib

from motserve.cli.exit_codes import exit_code_of
from motserve.cli.output.terminal import say_error
from motserve.errors import MissingExtra
from motserve.models.extras import required_extra

_CTRL_C = 130


def start(job: str) -> int:
    """Run `main` of a job's command.

    Args:
        job: Package of the job, such as `training.detector`.

    Returns:
        The exit code: that of the command, 2 where a package of the extra `train` is missing, 130 after Ctrl-C while
        packages are imported.
    """
    try:
        with required_extra("train", f"python -m {job}"):
            command = importlib.import_module(f"{job}.command")
    except MissingExtra as error:
        say_error(str(error))
        return exit_code_of(error)
    except KeyboardInterrupt:
        return _CTRL_C
    try:
        return int(command.main())
    finally:
        gc.freeze()  # the last collection of all that torch and Ray have loaded would take seconds

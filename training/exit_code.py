"""The end of every command: what is wrong is said in the log, in a line, and by the exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable

from motserve.errors import MotserveError


def exit_code(work: Callable[[], object], logger: logging.Logger) -> int:
    """Do what a command is for.

    Args:
        work: What it does.
        logger: Told of what it could not be done for.

    Returns:
        0 where it was done, 2 where settings, data or weights were wrong.
    """
    try:
        work()
    except MotserveError as error:
        logger.error("%s", error)
        return 2
    return 0

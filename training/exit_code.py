"""Turns errors of training commands into a log line and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable

from motserve.errors import MotserveError


def exit_code(work: Callable[[], object], logger: logging.Logger) -> int:
    """Run a command.

    Args:
        work: The command.
        logger: Logger for the error.

    Returns:
        0 for success, 2 for wrong settings, data or weights.
    """
    try:
        work()
    except MotserveError as error:
        logger.error("%s", error)
        return 2
    return 0

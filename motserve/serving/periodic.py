"""Repeats work at an interval, and goes on after errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

_CANCEL_AGAIN_S: Final = 5.0
"""Seconds after which a task that has not ended is cancelled again; its clean-up may take a while."""


@asynccontextmanager
async def repeating(
    work: Callable[[], Awaitable[object]], interval_s: float, logger: logging.Logger, message: str
) -> AsyncIterator[None]:
    """Repeat work while the context is open.

    Args:
        work: What to repeat. An error goes to the log, but not again while the same error repeats.
        interval_s: Seconds between the end of one run and the start of the next.
        logger: Logger for errors.
        message: Log message, followed by the error.
    """
    task = asyncio.create_task(repeat(work, interval_s, logger, message, interval_s))
    try:
        yield
    finally:
        await cancel_all(task)


async def repeat(
    work: Callable[[], Awaitable[object]],
    interval_s: float,
    logger: logging.Logger,
    message: str,
    delay_s: float = 0.0,
) -> None:
    """Repeat work until cancelled; see `cancel_all`.

    Args:
        work: See `repeating`, also for the next three.
        interval_s: Seconds.
        logger: Logger for errors.
        message: Log message, followed by the error.
        delay_s: Seconds before the first run.
    """
    last_error, wait_s = "", delay_s
    while True:
        await asyncio.sleep(wait_s)
        wait_s = interval_s
        try:
            await work()
            last_error = ""
        except Exception as error:
            if str(error) != last_error:  # the same error at each run would flood the log
                logger.warning("%s: %s", message, error)
            last_error = str(error)


async def cancel_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until all have ended.

    Up to Python 3.11, `wait_for` loses a cancellation that arrives together with the result, so that one cancellation
    may not be enough.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)

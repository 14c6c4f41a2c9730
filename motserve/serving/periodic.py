"""Does something again and again while a context is open, whatever goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def repeating(
    work: Callable[[], Awaitable[object]], interval_s: float, logger: logging.Logger, complaint: str
) -> AsyncIterator[None]:
    """Work now and then while the context is open.

    Args:
        work: What is done. What it raises goes to the log, once and not again until something else or nothing goes
            wrong.
        interval_s: Seconds between the end of one time and the beginning of the next.
        logger: Where complaints go.
        complaint: What is said before the error.
    """
    ended = asyncio.Event()
    task = asyncio.create_task(repeat(work, interval_s, logger, complaint, interval_s, ended))
    try:
        yield
    finally:
        ended.set()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def repeat(
    work: Callable[[], Awaitable[object]],
    interval_s: float,
    logger: logging.Logger,
    complaint: str,
    begin_s: float = 0.0,
    ended: asyncio.Event | None = None,
) -> None:
    """Work now and then until it is cancelled.

    Args:
        work: As for `repeating`, and so are the next three.
        interval_s: Seconds.
        logger: Where complaints go.
        complaint: What is said before the error.
        begin_s: Seconds before the first time.
        ended: Set when it is cancelled: up to Python 3.11, `wait_for` loses a cancellation that comes just as the
            answer does.
    """
    told, wait_s = "", begin_s
    while ended is None or not ended.is_set():
        await asyncio.sleep(wait_s)
        wait_s = interval_s
        try:
            await work()
            told = ""
        except Exception as error:
            if str(error) != told:  # once, and not every few seconds until somebody looks
                logger.warning("%s: %s", complaint, error)
            told = str(error)

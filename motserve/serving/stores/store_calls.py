"""Calls the stores from an event loop, in threads of their own and with a limit of time.

A store that is locked by another process, or whose disk does not answer, blocks the threads that call it. The threads
of `asyncio.to_thread` are few, and uploads and health checks need them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from motserve.errors import Overloaded

Result = TypeVar("Result")

REQUEST_TIMEOUT_S: Final = 5.0
"""Seconds that a request waits for a locked store; clients then get 503."""
_LIMIT_S: Final = 4 * REQUEST_TIMEOUT_S  # of a call with several transactions


class StoreCalls:
    """Runs calls of the stores in threads.

    Args:
        threads: Largest number of calls at a time; further ones wait.
        retry_after_s: Seconds after which a client may try again if a store does not answer.
    """

    def __init__(self, threads: int, retry_after_s: int) -> None:
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._retry_after_s = retry_after_s

    async def run(self, call: Callable[..., Result], *values: object, limit_s: float | None = _LIMIT_S) -> Result:
        """Call a function in a thread.

        Args:
            call: The function.
            values: Its arguments.
            limit_s: Seconds after which it is not waited for any more; None for calls that may take long.

        Raises:
            Overloaded: There is no answer in time.
            Exception: An error of the function.
        """
        work = partial(contextvars.copy_context().run, call, *values)
        answer = asyncio.get_running_loop().run_in_executor(self.threads, work)
        try:
            await asyncio.wait({answer}, timeout=limit_s)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if not answer.done():
            answer.cancel()
            raise Overloaded(
                f"the storage of the service (serving.storage_dir) does not answer within {limit_s:g} s; try again "
                "later",
                self._retry_after_s,
            )
        return await answer

"""Runs work that must not be cancelled when the client of its request disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Result = TypeVar("Result")


async def run_to_completion(submit: Callable[[], Result], threads: Executor | None = None) -> Result:
    """Call a function in a thread and let it finish even if the request is cancelled.

    When a client disconnects, Ray Serve cancels the task of its request and every Ray task submitted from it. A thread
    of the pool has no request context, so Ray tasks submitted there continue. The call is not cancelled while it waits
    for a thread either: a cancelled caller cannot know whether it was made, so it is always made.

    Args:
        submit: The function.
        threads: Where it runs; None for the threads of the event loop.
    """
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(threads, submit))

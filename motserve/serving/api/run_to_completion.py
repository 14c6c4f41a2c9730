"""Submits work to Ray that outlives the request it was asked for in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def run_to_completion(submit: Callable[[], Result]) -> Result:
    """Call a function to its end, whatever its client does; Ray tasks that it submits are nobody's children.

    When a client leaves, Ray Serve cancels the task of its request and with it every task submitted from there. A
    thread of the pool carries no context of the request, so what it submits goes on. Nor is the call itself taken back
    while it waits for a thread: whoever is cancelled here does not know whether it was made, so it always is.
    """
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, submit))

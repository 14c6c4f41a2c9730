"""Ends a session that uses too much memory, so that its video fails alone and with the reason."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from motserve.errors import OutOfMemory
from motserve.serving.periodic import cancel_all

Result = TypeVar("Result")

_CHECK_S: Final = 0.25
_STATUS: Final = Path("/proc/self/status")
_M_MMAP_THRESHOLD: Final = -3  # of glibc's <malloc.h>
_LARGE_BYTES: Final = 4 << 20  # a frame of 720p is smaller, one of 1080p is larger


def own_memory() -> int:
    """Return the bytes of memory that this process alone uses, without files and shared memory; 0 outside Linux."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def return_large_blocks(bytes_at_least: int = _LARGE_BYTES) -> bool:
    """Have this process give blocks of memory of this size back to the system as soon as they are free.

    glibc raises its threshold for this to the size of the largest block that was freed, and then takes such blocks from
    its heap, where frames of several threads leave holes: a session of a video in 1080p has twice the memory of its
    frames. A fixed threshold costs two milliseconds per frame of 1080p.

    Returns:
        Whether the C library does so; only glibc can.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, bytes_at_least))
    except (AttributeError, OSError, TypeError):  # another C library; Windows has none of this name
        return False


class MemoryLimit:
    """Watches the memory of a process while it works.

    Args:
        limit_bytes: Most memory that the process may use.
        used: Returns the bytes that it uses.
        check_s: Seconds between two checks.
    """

    def __init__(self, limit_bytes: int, used: Callable[[], int] = own_memory, check_s: float = _CHECK_S) -> None:
        self._limit_bytes = limit_bytes
        self._used = used
        self._check_s = check_s

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Work until the end.

        Args:
            work: What to do; it is cancelled when the memory exceeds the limit.

        Raises:
            OutOfMemory: The memory exceeds the limit.
        """
        task = asyncio.create_task(work)
        watch = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                watch.result()
            return await task
        finally:
            await cancel_all(task, watch)

    async def _watch(self) -> None:
        while (used := self._used()) <= self._limit_bytes:
            await asyncio.sleep(self._check_s)
        raise OutOfMemory(
            f"the session needs more memory than it may use: {used >> 20} MiB, the limit is {self._limit_bytes >> 20} "
            "MiB (serving.session.memory_bytes); its frames are very large or its people very many"
        )

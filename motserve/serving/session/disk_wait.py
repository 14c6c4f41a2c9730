"""Lets a session wait while the disk is full, and go on when there is room again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from motserve.config import Config
from motserve.errors import DiskFull
from motserve.serving.observability.progress import Progress
from motserve.serving.stores import as_disk_full, require_reserve

Result = TypeVar("Result")
logger = logging.getLogger("motserve.session")

_POLL_S: Final = 1.0


class DiskWait:
    """Repeats what a full disk refuses, for up to `disk.wait_s` in one go.

    Args:
        config: The configuration.
        progress: The progress of the video; waiting is no stall.
        extra: Returns what each log line of the session carries.
        clock: Monotonic clock in seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        config: Config,
        progress: Progress,
        extra: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._progress = progress
        self._extra = extra
        self._clock = clock
        self._sleep = sleep

    async def write(self, work: Callable[[], Result]) -> Result:
        """Do something that writes to the disk in a thread; it must leave nothing half-written when it fails.

        Raises:
            DiskFull: The disk is full for longer than `disk.wait_s`.
            Exception: Any other error of the work.
        """

        async def attempt() -> Result:
            try:
                return await asyncio.to_thread(work)
            except Exception as error:
                raise as_disk_full(error, self._progress.frames_written) or error from error

        return await self._until_room(attempt)

    async def reserve(self) -> None:
        """Wait until at least `disk.reserve_bytes` are free.

        Raises:
            DiskFull: They are not for longer than `disk.wait_s`.
        """
        await self._until_room(lambda: require_reserve(self._config, self._progress.frames_written))

    async def _until_room(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        since: float | None = None
        while True:
            try:
                result = await attempt()
            except DiskFull as error:
                if since is None:
                    since = self._clock()
                    logger.error("the video waits for room on the disk: %s", error, extra=self._extra())
                if self._clock() - since >= self._config.disk.wait_s:
                    raise
                with self._progress.waiting():
                    await self._sleep(_POLL_S)
            else:
                if since is not None:
                    seconds = self._clock() - since
                    logger.info("there is room again after %.0f s, the video goes on", seconds, extra=self._extra())
                return result

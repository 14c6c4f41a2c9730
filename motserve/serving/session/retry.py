"""Makes a session's requests to the deployments, again where a replica died under one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ray.exceptions import RayActorError, RayTaskError

from motserve.config.serving import SessionConfig
from motserve.errors import NotReady

Result = TypeVar("Result")
logger = logging.getLogger("motserve.session")


class Retry:
    """Asks detector and embedder for one video.

    Args:
        limits: How often, and for how long.
        repeated: Told of each request that is made again.
        frames: Tells how many frames are done, for the log.
    """

    def __init__(self, limits: SessionConfig, repeated: Callable[[], None], frames: Callable[[], int]) -> None:
        self._limits = limits
        self._repeated = repeated
        self._frames = frames

    async def call(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Make a request, again where a replica died under it, within a time.

        Raises:
            NotReady: No replica answered in time, or each that tried died.
            Exception: Whatever the replica raises.
        """
        limits = self._limits
        for attempt in range(1, limits.attempts + 1):
            try:
                return await asyncio.wait_for(request(), limits.request_timeout_s)
            except RayActorError as error:
                extra = {"frame": self._frames(), "error": str(error)}
                logger.warning("a replica died, attempt %d of %d", attempt, limits.attempts, extra=extra)
                if attempt < limits.attempts:
                    self._repeated()
            except RayTaskError as error:
                raise error.cause from error  # the failure of the video names it, not its traceback
            except asyncio.TimeoutError as error:
                raise NotReady(f"detector or embedder did not answer within {limits.request_timeout_s} s") from error
        raise NotReady(f"{limits.attempts} replicas of detector or embedder died, one after the other")

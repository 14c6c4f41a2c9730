"""Sends the requests of a session to the deployments, and retries when a replica dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ray.exceptions import RayActorError, RayTaskError

from motserve.config.serving import SessionConfig
from motserve.errors import NotReady
from motserve.serving.observability.progress import Progress

Result = TypeVar("Result")
logger = logging.getLogger("motserve.session")


class Retry:
    """Sends requests to detector and embedder for one video.

    Args:
        limits: Has `attempts`, the tries per request, and `request_timeout_s`, the seconds per try.
        progress: The progress of the video; each retry is counted in it.
    """

    def __init__(self, limits: SessionConfig, progress: Progress) -> None:
        self._limits = limits
        self._progress = progress

    async def call(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Send a request, and retry if the replica dies.

        Raises:
            NotReady: A replica did not answer in time, or the replica of each try died.
            Exception: The error of the replica.
        """
        limits = self._limits
        for attempt in range(1, limits.attempts + 1):
            try:
                return await asyncio.wait_for(request(), limits.request_timeout_s)
            except RayActorError as error:
                extra = {"frame": self._progress.frames_written, "error": str(error)}
                logger.warning("a replica died, attempt %d of %d", attempt, limits.attempts, extra=extra)
                if attempt < limits.attempts:
                    self._progress.retries += 1
            except RayTaskError as error:
                raise error.cause from error  # the error of the video names the cause, not the traceback
            except asyncio.TimeoutError as error:
                raise NotReady(f"detector or embedder did not answer within {limits.request_timeout_s} s") from error
        raise NotReady(f"{limits.attempts} replicas of detector or embedder died, one after the other")

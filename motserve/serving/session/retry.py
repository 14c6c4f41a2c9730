"""Sends the requests of a session to the deployments, and sends them again when a replica dies or hangs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from motserve.config.serving import SessionConfig
from motserve.errors import NotReady
from motserve.serving.observability.progress import Progress

Result = TypeVar("Result")
logger = logging.getLogger("motserve.session")

_TRANSIENT: Final = (
    RayActorError,
    NodeDiedError,
    ObjectLostError,
    BackPressureError,
    DeploymentUnavailableError,
    asyncio.TimeoutError,
)
"""Errors of a replica, its node or the way to it; another replica, or the same one later, may answer."""

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


class Retry:
    """Sends requests to detector and embedder for one video.

    Args:
        limits: Has `attempts`, the tries per request, and `request_timeout_s`, the seconds per try.
        progress: The progress of the video; each retry is counted in it.
        sleep: Waits for some seconds.
    """

    def __init__(
        self, limits: SessionConfig, progress: Progress, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._limits = limits
        self._progress = progress
        self._sleep = sleep

    async def call(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Send a request, and send it again if the replica dies, does not answer in time, or is not available.

        Pauses between the tries double and are drawn at random, so that the sessions of a lost replica do not all ask
        at once.

        Raises:
            NotReady: No try was answered.
            Exception: The error of the replica.
        """
        limits = self._limits
        with self._progress.waiting():
            for attempt in range(1, limits.attempts + 1):
                try:
                    return await asyncio.wait_for(request(), limits.request_timeout_s)
                except RayTaskError as error:  # first: it may also be an instance of the class of its cause
                    raise error.cause from error  # the error of the video names the cause, not the traceback
                except _TRANSIENT as error:
                    said = _said(error, limits.request_timeout_s)
                    extra = {"frame": self._progress.frames_written, "error": str(error)}
                    logger.warning("%s, attempt %d of %d", said, attempt, limits.attempts, extra=extra)
                    if attempt == limits.attempts:
                        raise NotReady(f"detector or embedder: {said}, {attempt} times in a row") from error
                    self._progress.retries += 1
                    await self._sleep(random.uniform(0.5, 1) * min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
        raise AssertionError("there is at least one attempt")


def _said(error: Exception, timeout_s: float) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return f"a replica did not answer within {timeout_s:g} s"
    if isinstance(error, RayActorError | NodeDiedError):
        return "a replica died"
    return f"a replica is not available ({type(error).__name__})"

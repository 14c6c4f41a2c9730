"""What makes a session the only one of its video: it gives signs of life, and sees when another one has taken over.

A video belongs to the attempt that stands in its row of the job store. Whoever finds the row without a sign of life for
`serving.session.lease_s` gives the video to the next attempt (`SessionLauncher.restart_lost`). A session whose attempt is
no longer that of the row writes nothing more, and one that could not give a sign of life for so long that it may have
been replaced stops before it knows.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from motserve.config.serving import SessionConfig
from motserve.errors import MotserveError
from motserve.serving.stores import ACTIVE, Job, JobStore

logger = logging.getLogger("motserve.session")

_SIGNS: Final = 3  # of life in the time after which a session is taken for lost
_AGAIN_S: Final = 0.2  # between two tries of a change that must not get lost


class Superseded(MotserveError):
    """The video was deleted, or another session has it."""


class Lease:
    """A session's hold of its video.

    Args:
        jobs: The job store.
        job: The job of the session's attempt.
        config: How long a lease lasts.
        is_draining: Tells whether the machine is to be left.
        clock: Monotonic clock in seconds.

    Attributes:
        leaving: Whether the machine is to be left.
    """

    def __init__(
        self,
        jobs: JobStore,
        job: Job,
        config: SessionConfig,
        is_draining: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leaving = False
        self._jobs = jobs
        self._job = job
        self._lease_s = config.lease_s
        self._is_draining = is_draining
        self._clock = clock
        self._renewed_at = clock()
        self._extra = {"video_id": job.id, "attempt": job.attempt}
        self._over = False
        self._in_turn = threading.Lock()

    def write(self, **changes: Any) -> None:
        """Change columns of the job, which renews the lease; a sign of life after its end does nothing.

        Raises:
            Superseded: The video was deleted, is another's, or has ended.
            sqlite3.Error: The store could not be written to.
        """
        with self._in_turn:
            if not self._over:
                self._write(changes)
                self._over = changes.get("status", "running") not in ACTIVE
            elif changes:
                raise Superseded(f"attempt {self._job.attempt} of video {self._job.id} has ended, or given it back")

    def release(self) -> None:
        """Give the video back, to be taken over at once.

        Raises:
            Superseded: See `write`.
        """
        with self._in_turn:  # a sign of life that comes later would undo it
            self._write({"heartbeat": 0.0})
            self._over = True

    async def surely(self, change: Callable[..., None], **changes: Any) -> None:
        """Make a change, again where the store fails, for as long as a lease lasts.

        Not for as long as it is renewed: a store that takes signs of life and nothing else, as on a full disk, must
        not hold the video for ever.

        Args:
            change: `write` or `release`.
            changes: What it is called with.

        Raises:
            Superseded: See `write`; or it could not be made in this time, and is left to whoever takes the video up.
        """
        until = self._clock() + self._lease_s
        while True:
            try:
                await asyncio.wait_for(asyncio.to_thread(change, **changes), max(until - self._clock(), 0.0))
            except (sqlite3.Error, asyncio.TimeoutError) as error:  # a store may also not answer at all
                logger.warning("the job store takes no change: %s", str(error) or "no answer", extra=self._extra)
                if until <= self._clock():
                    raise Superseded(f"the job store took no change for {self._lease_s:g} s") from error
            else:
                return
            await asyncio.sleep(max(min(_AGAIN_S, until - self._clock()), 0.0))

    async def keep(self) -> None:
        """Renew the lease until it is lost, or the session needs it no more; look whether the machine is to be left.

        Raises:
            Superseded: The video was deleted, another session has it, or may have.
        """
        while not self._over:
            try:
                await asyncio.wait_for(asyncio.to_thread(self.write), max(self._left_s(), 0.0))
            except (sqlite3.Error, asyncio.TimeoutError) as error:
                logger.warning("no sign of life could be given: %s", str(error) or "no answer", extra=self._extra)
                if self._left_s() <= 0:
                    raise Superseded(f"no sign of life for {self._lease_s:g} s, another session may have it") from error
            await self._look_at_machine()
            await asyncio.sleep(max(min(self._lease_s / _SIGNS, self._left_s()), 0.0))

    def _left_s(self) -> float:
        return self._renewed_at + self._lease_s - self._clock()

    def _write(self, changes: Mapping[str, Any]) -> None:
        now = self._clock()  # before it is written: whoever counts from the row counts from later
        if not self._jobs.write(self._job.id, self._job.attempt, **changes):
            raise Superseded(f"video {self._job.id} was deleted or taken over from attempt {self._job.attempt}")
        self._renewed_at = now

    async def _look_at_machine(self) -> None:
        if self.leaving:
            return
        try:
            self.leaving = await asyncio.to_thread(self._is_draining)
        except Exception as error:  # whatever Ray raises while its control plane is away, which ends no video
            logger.warning("it cannot be told whether the machine is drained: %s", error, extra=self._extra)
            return
        if self.leaving:
            logger.info("the machine is drained, the session leaves it", extra=self._extra)

"""The lease that makes a session the only one of its video: it writes heartbeats, and detects a successor.

A session that runs but makes no progress for `serving.session.stall_timeout_s` stops, so that the next one resumes the
video. A session that cannot run at all, because its process is stopped, writes no heartbeat and is killed.

A video belongs to the attempt in its row of the job store. An ingress replica that finds no heartbeat in the row for
`serving.session.lease_s` gives the video to the next attempt (`SessionLauncher.restart_lost`). A session whose attempt
is not the one in the row any more cannot write, and a session that could not write a heartbeat for a whole lease stops,
because it may have been replaced. While another process locks the store, no one can be given the video: a lease lasts
as long, up to a limit.
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
from motserve.files.disk import is_locked
from motserve.serving.stores import ACTIVE, Job, JobStore

logger = logging.getLogger("motserve.session")

HEARTBEATS_PER_LEASE: Final = 3
_RETRY_INTERVAL_S: Final = 0.2  # between two tries of a change that must not get lost


class Superseded(MotserveError):
    """The video was deleted, or another session has it: this session must stop."""


class Lease:
    """A session's exclusive right to write to its video.

    Args:
        jobs: The job store.
        job: The job of the session's attempt.
        config: Has `lease_s`, the seconds without a heartbeat after which a lease is lost, and `stall_timeout_s`.
        is_draining: Returns whether this node is being drained.
        stalled_s: Returns the seconds without progress; 0 while the session waits for a reason.
        clock: Monotonic clock in seconds.
        locked_wait_s: Seconds that the lease lasts longer while the store is locked.

    Attributes:
        store_answers: Whether the last write reached the store.
        draining: Whether this node is being drained, so that the session should release its video.
    """

    def __init__(
        self,
        jobs: JobStore,
        job: Job,
        config: SessionConfig,
        is_draining: Callable[[], bool],
        stalled_s: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        locked_wait_s: float = 0.0,
    ) -> None:
        self.draining = False
        self.store_answers = True
        self._locked_wait_s = locked_wait_s
        self._locked_since: float | None = None
        self._jobs = jobs
        self._job = job
        self._lease_s = config.lease_s
        self._stall_timeout_s = config.stall_timeout_s
        self._stalled_s = stalled_s
        self._is_draining = is_draining
        self._clock = clock
        self._renewed_at = clock()
        self._extra = {"video_id": job.id, "attempt": job.attempt}
        self._ended = False
        self._lock = threading.Lock()

    def write(self, **changes: Any) -> None:
        """Change columns of the job and renew the lease; without changes it is a heartbeat.

        A heartbeat after the end of the lease does nothing.

        Raises:
            Superseded: The video was deleted, belongs to another session, or has ended.
            sqlite3.Error: The store could not be written to.
        """
        with self._lock:
            if not self._ended:
                self._write(changes)
                self._ended = changes.get("status", "running") not in ACTIVE
            elif changes:
                raise Superseded(f"attempt {self._job.attempt} of video {self._job.id} has ended or was released")

    def release(self) -> None:
        """Release the video, so that another session may restart it at once.

        Raises:
            Superseded: See `write`.
        """
        with self._lock:  # a later heartbeat would undo it
            self._write({"heartbeat": 0.0})
            self._ended = True

    async def write_with_retry(self, change: Callable[..., None], **changes: Any) -> None:
        """Make a change, and retry for the length of one lease while the store fails, longer while it is locked.

        Heartbeats do not extend this time: a store that accepts heartbeats and nothing else, as on a full disk, must
        not hold the video for ever.

        Args:
            change: `write` or `release`.
            changes: Its arguments.

        Raises:
            Superseded: See `write`; or all tries failed, and the next session of the video makes the change.
        """
        began = self._clock()
        deadline = began + self._lease_s
        while True:
            try:
                await asyncio.wait_for(asyncio.to_thread(change, **changes), max(deadline - self._clock(), 0.0))
            except (sqlite3.Error, asyncio.TimeoutError) as error:  # a store may also not answer at all
                logger.warning("the job store accepts no change: %s", str(error) or "no answer", extra=self._extra)
                if is_locked(error) and self._clock() - began < self._locked_wait_s:
                    deadline = self._clock() + self._lease_s
                if deadline <= self._clock():
                    seconds = self._clock() - began
                    raise Superseded(f"the job store accepted no change for {seconds:.0f} s") from error
            else:
                return
            await asyncio.sleep(max(min(_RETRY_INTERVAL_S, deadline - self._clock()), 0.0))

    async def keep(self) -> None:
        """Write heartbeats until the lease has ended, and check whether this node is being drained.

        Raises:
            Superseded: The lease is lost: the video was deleted, or another session has it or may have it; or this
                session makes no progress.
        """
        while not self._ended:
            if self._stalled_s() > self._stall_timeout_s:
                raise Superseded(f"no progress for {self._stall_timeout_s:g} s; the next session resumes the video")
            try:
                await asyncio.wait_for(asyncio.to_thread(self.write), max(self._left_s(), 0.0))
            except (sqlite3.Error, asyncio.TimeoutError) as error:
                logger.warning("the heartbeat could not be written: %s", str(error) or "no answer", extra=self._extra)
                if self._outlasts(error):
                    await self._check_node()
                    await asyncio.sleep(_RETRY_INTERVAL_S)
                    continue
                if self._left_s() <= 0:
                    raise Superseded(f"no heartbeat for {self._lease_s:g} s, another session may run") from error
            await self._check_node()
            await asyncio.sleep(max(min(self._lease_s / HEARTBEATS_PER_LEASE, self._left_s()), 0.0))

    def _outlasts(self, error: BaseException) -> bool:
        """Renew the lease if the store is locked, which keeps others from taking the video over; return whether."""
        if not is_locked(error):
            return False
        now = self._clock()
        self._locked_since = now if self._locked_since is None else self._locked_since
        if now - self._locked_since >= self._locked_wait_s:
            return False
        self._renewed_at = now
        return True

    def _left_s(self) -> float:
        return self._renewed_at + self._lease_s - self._clock()

    def _write(self, changes: Mapping[str, Any]) -> None:
        now = self._clock()  # before the write: this lease must end before the heartbeat in the row expires
        try:
            is_ours = self._jobs.write(self._job.id, self._job.attempt, began=True, **changes)
        except BaseException:
            self.store_answers = False
            raise
        self.store_answers, self._locked_since = True, None
        if not is_ours:
            raise Superseded(f"video {self._job.id} was deleted or taken over from attempt {self._job.attempt}")
        self._renewed_at = now

    async def _check_node(self) -> None:
        if self.draining:
            return
        try:
            self.draining = await asyncio.to_thread(self._is_draining)
        except Exception as error:  # of Ray, while its control plane is unavailable; no reason to end the video
            logger.warning("whether the node is being drained is unknown: %s", error, extra=self._extra)
            return
        if self.draining:
            logger.info("the node is being drained, the session leaves it", extra=self._extra)

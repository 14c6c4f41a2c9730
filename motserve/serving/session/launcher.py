"""Starts, finds and stops the session actors, and restarts lost sessions."""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from motserve.config import Config
from motserve.errors import Conflict
from motserve.people.identity_store import IdentityStore
from motserve.serving.inference.backends import Backends
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.session.actor import SessionActors
from motserve.serving.session.checkpoint import CheckpointStore
from motserve.serving.session.lease import HEARTBEATS_PER_LEASE
from motserve.serving.session.nodes import all_draining, has_free_cpus, waits_for_cpus
from motserve.serving.session.video_identities import remove_identities
from motserve.serving.session.warm import WarmSessions
from motserve.serving.stores import ArtifactStore, Job, JobStore

Attempt = TypeVar("Attempt", Job, Job | None)
logger = logging.getLogger("motserve.ingress")

_ABANDONED_S = 86400.0
"""Age at which files without a row count as left by a killed upload; the row is made at the end of an upload."""


class SessionLauncher:
    """One actor for each active video, with a name that every ingress replica knows.

    The actor is one that waits for a video, whose name is in the row of the video, or one of its own, named after the
    video and its attempt.

    Args:
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        backends: The deployments that sessions call.
        jobs: The job store.
        artifacts: The artifact store.
        identities: The index of people of finished videos.
        clock: Seconds since the epoch.
        all_draining: Returns whether all nodes of the cluster are being drained.
        warm: The processes that wait for videos; None for those of the configuration.

    Attributes:
        warm: The processes that wait for videos.
    """

    def __init__(
        self,
        config: Config,
        deployment: str,
        backends: Backends,
        jobs: JobStore,
        artifacts: ArtifactStore,
        identities: IdentityStore,
        clock: Callable[[], float] = time.time,
        all_draining: Callable[[], bool] = all_draining,
        warm: WarmSessions | None = None,
    ) -> None:
        self._config = config
        self._actors = SessionActors(config, deployment, backends)
        self.warm = warm or WarmSessions(config.serving.session, self._actors, has_free_cpus, waits_for_cpus)
        self._jobs = jobs
        self._artifacts = artifacts
        self._identities = identities
        self._clock = clock
        self._all_draining = all_draining
        self._started: set[tuple[str, int]] = set()
        self._store_failed = False
        self._store_answers_since = -math.inf

    def start(self, job: Job, context: RequestContext) -> None:
        """Admit a video and start its session.

        Args:
            job: The video.
            context: The request that posted it.

        Raises:
            Overloaded: `serving.max_active_videos` videos are active.
        """
        limits = self._config.serving

        def add(actor: str) -> Job:
            # without an actor within a lease, `restart_lost` restarts it
            added = replace(job, heartbeat=self._clock(), actor=actor)
            self._jobs.add(added, limits.max_active_videos, limits.retry_after_s)
            return added

        added = self._with_actor(add)
        try:
            self._begin(added, context)
        except BaseException:
            self._jobs.delete(job.id)
            raise

    def retry(self, job: Job, context: RequestContext) -> Job:
        """Track a failed video again, from its first frame.

        Args:
            job: The video.
            context: The request for it.

        Returns:
            The job of the new attempt.

        Raises:
            Conflict: The video has not failed.
            Overloaded: `serving.max_active_videos` videos are active.
        """
        limits = self._config.serving
        again = self._with_actor(
            lambda actor: self._jobs.retry(job, limits.max_active_videos, limits.retry_after_s, actor)
        )
        if again is None:
            raise Conflict(f"video {job.id} is {job.status}; only a failed video can be tracked again")
        try:
            self._begin(again, context)
        except BaseException:
            self._jobs.give_up(again, job.error or {})
            raise
        return again

    def find(self, job: Job) -> Any | None:
        """Return the actor of the current attempt of a video; None if it has none in this cluster."""
        return self._actors.find(actor_name(job))

    def stop(self, job: Job) -> None:
        """Kill the session of a video, if it has one."""
        actor = self.find(job)
        if actor is not None:
            self._kill(actor)

    def restart_lost(self) -> None:
        """Restart the videos whose session was lost, hangs, or released them; several replicas may call it at once.

        A session that this replica started and that has no actor any more is lost. Others may run in another cluster
        with the same stores, so their heartbeat decides. A session that has written heartbeats and stopped doing so
        hangs, and is killed: it may block a detector that waits until the answer is taken. A cluster that is drained
        as a whole restarts nothing and leaves its videos to its successor.

        While the store is locked or away, no session can write a heartbeat; each has a whole lease after that time.
        A session is killed only once its video is written to be another session's, which a locked store refuses.
        """
        try:
            self._restart_lost()
        except sqlite3.Error:
            self._store_failed = True
            raise

    def _restart_lost(self) -> None:
        lease_s = self._config.serving.session.lease_s
        active = self._read_active()
        self._started &= {(job.id, job.attempt) for job in active}
        self.warm.videos_start = any(not job.began for job in active)
        lost: list[tuple[Job, str, Any | None]] = []
        for job in active:
            age_s = self._clock() - (max(job.heartbeat, self._store_answers_since) if job.heartbeat else 0.0)
            is_own = (job.id, job.attempt) in self._started
            if age_s <= lease_s / 2 and not is_own:
                continue
            actor = self.find(job)
            if actor is None:
                if age_s > lease_s or is_own:
                    lost.append((job, "its process ended" if job.began else "it never began", None))
            elif job.began and age_s > lease_s:
                if job.heartbeat:  # otherwise it has released the video and is about to end
                    lost.append((job, f"it wrote no heartbeat for {age_s:.0f} s and was killed", actor))
            elif age_s > lease_s / 2 and job.heartbeat and not job.began and self._jobs.write(job.id, job.attempt):
                # it waits for a free CPU, or its launcher died before the call was sent
                actor.run.remote(job, RequestContext(video_id=job.id))
        if lost and not self._all_draining():
            for job, reason, actor in lost:
                self._restart(job, reason, actor)

    def reconcile(self) -> None:
        """Remove people of deleted and failed videos from the index, and files of killed uploads.

        If a store cannot be used, they stay until the next start.
        """
        try:
            self._reconcile()
        except sqlite3.OperationalError as error:
            logger.warning("remains of deleted videos and killed uploads stay until the next start: %s", error)

    def _reconcile(self) -> None:
        videos = self._identities.videos()
        jobs = self._jobs.get_many(videos)
        if gone := [video for video in videos if video not in jobs or jobs[video].status == "failed"]:
            self._identities.remove(gone)
        folders = self._artifacts.videos()
        known = self._jobs.get_many(folders)  # after the folders: a video gets its folder before its row
        for video in folders:
            if video not in known and self._artifacts.remove_abandoned(video, self._clock() - _ABANDONED_S):
                logger.warning("files of a killed upload were removed", extra={"video_id": video})

    def _read_active(self) -> list[Job]:
        """Return the active jobs, and note since when the store answers."""
        asked_at = self._clock()
        active = self._jobs.active()
        # a read that waited as long as the interval of heartbeats waited for a lock that sessions waited for as well
        if (
            self._store_failed
            or self._clock() - asked_at >= self._config.serving.session.lease_s / HEARTBEATS_PER_LEASE
        ):
            self._store_failed, self._store_answers_since = False, self._clock()
        return active

    def _restart(self, job: Job, reason: str, hanging: Any | None) -> None:
        extra = {"video_id": job.id, "frame": job.frames_done, "attempt": job.attempt}
        lost = job.heartbeat > 0
        loss = f"session {job.attempt}: {reason}, after frame {job.frames_done}" if lost else ""
        if lost and job.restarts >= self._config.serving.session.restarts:
            if self._fail(job, loss) and hanging is not None:
                self._kill(hanging)
            return
        restarted = self._with_actor(lambda actor: self._jobs.take_over(job, loss, actor))
        if restarted is None:  # another replica was faster, or the session is alive
            return
        if hanging is not None:
            self._kill(hanging)
        if lost:
            logger.warning("session lost, the video is restarted: %s", reason, extra=extra)
        else:
            logger.info("session left its node, the video is restarted", extra=extra)
        try:
            self._begin(restarted, RequestContext(video_id=restarted.id))
        except ValueError:
            logger.exception("no session could be started; it is tried again after a lease", extra=extra)

    def _fail(self, job: Job, loss: str) -> bool:
        """Record that a video has failed, and return whether this replica did."""
        lost = f"{job.restarts + 1} sessions were" if job.restarts else "the session was"
        again = f"POST /v1/videos/{job.id}/retry tracks it again"
        message = f"{lost} lost ({'; '.join([*job.losses, loss])}); {again}"
        error = {"type": "SessionLost", "message": message}
        if not self._jobs.give_up(job, error):
            return False
        logger.error(message, extra={"video_id": job.id, "frame": job.frames_done})
        CheckpointStore(self._artifacts, job.id, self._config).remove(job.attempt + 1)
        remove_identities(self._identities, job.id, logger)
        return True

    def _kill(self, actor: Any) -> None:
        self._actors.kill(actor)

    def _with_actor(self, write: Callable[[str], Attempt]) -> Attempt:
        """Write a new attempt with the name of a process that waits for a video, empty if none does; return its job.

        The process waits on if no attempt is written.
        """
        process = self.warm.take()
        written = False
        try:
            job = write(process.name if process else "")
            written = job is not None
            return job
        finally:
            if process is not None and not written:
                self.warm.put_back(process)

    def _begin(self, job: Job, context: RequestContext) -> None:
        self._launch(job, context)
        self._started.add((job.id, job.attempt))

    def _launch(self, job: Job, context: RequestContext) -> None:
        actor = self.find(job) if job.actor else None
        if actor is None:
            self.warm.videos_start = True
            if job.actor and not self._jobs.write(job.id, job.attempt, actor=""):  # the process has just ended
                return
            job = replace(job, actor="")
            actor = self._actors.start(actor_name(job))
        actor.run.remote(job, context)


def actor_name(job: Job) -> str:
    """Return the name of an attempt's actor. It is its own, so that no attempt waits until the last one has ended."""
    return job.actor or f"{job.id}.{job.attempt}"

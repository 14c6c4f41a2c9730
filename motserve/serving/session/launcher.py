"""Starts, finds and ends the session actors, and starts others in the place of those that were lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.serve.handle import DeploymentHandle

from motserve.config import Config
from motserve.people.identity_store import IdentityStore
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.session.actor import VideoSession
from motserve.serving.session.checkpoint import CheckpointStore
from motserve.serving.session.nodes import all_draining
from motserve.serving.session.remember import forget
from motserve.serving.stores import ArtifactStore, Job, JobStore

logger = logging.getLogger("motserve.ingress")

_NAMESPACE = "motserve"
_ABANDONED_S = 86400.0
"""Age at which files without a row are taken for those of an upload that was killed; the row is made at its end."""


class SessionLauncher:
    """One actor for each active video, named after it, so that every ingress replica finds it.

    Args:
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        jobs: The job store.
        artifacts: The artifact store.
        identities: The store of people of finished videos.
        detector: Handle of the detector deployment.
        embedder: Handle of the embedder deployment.
        monitor: Handle of the deployment that counts.
        clock: Seconds since the epoch.
        all_draining: Tells whether the whole cluster is about to be taken away.
    """

    def __init__(
        self,
        config: Config,
        deployment: str,
        jobs: JobStore,
        artifacts: ArtifactStore,
        identities: IdentityStore,
        detector: DeploymentHandle[Any],
        embedder: DeploymentHandle[Any],
        monitor: DeploymentHandle[Any],
        clock: Callable[[], float] = time.time,
        all_draining: Callable[[], bool] = all_draining,
    ) -> None:
        self._config = config
        self._deployment = deployment
        self._jobs = jobs
        self._artifacts = artifacts
        self._identities = identities
        self._detector = detector
        self._embedder = embedder
        self._monitor = monitor
        self._clock = clock
        self._all_draining = all_draining
        self._actor: Any = ray.remote(VideoSession)

    def start(self, job: Job, origin: RequestContext) -> None:
        """Admit a video and start its session.

        Args:
            job: The video.
            origin: The request that brought it.

        Raises:
            Overloaded: As many videos as allowed are in work.
        """
        limits = self._config.serving
        job = replace(job, heartbeat=self._clock())  # its actor comes within a lease, or it is taken up by the watch
        self._jobs.add(job, limits.max_active_videos, limits.retry_after_s)
        try:
            self._launch(job, origin)
        except BaseException:
            self._jobs.delete(job.id)
            raise

    def find(self, video_id: str) -> Any | None:
        """Return the actor of a video, None where it has none or no more."""
        try:
            return ray.get_actor(video_id, namespace=_NAMESPACE)
        except ValueError:
            return None

    def stop(self, video_id: str) -> None:
        """End the session of a video at once; none is no error."""
        actor = self.find(video_id)
        if actor is not None:
            ray.kill(actor)

    def restart_lost(self) -> None:
        """Take up the videos whose sessions were lost or have given them back; several replicas may do so at once.

        A session of another cluster, which uses the same stores, has no actor here: what counts is its sign of life. A
        cluster that goes as a whole leaves its videos to its successor.
        """
        lease_s = self._config.serving.session.lease_s
        lost = []
        for job in self._jobs.active():
            silent_s = self._clock() - job.heartbeat
            if silent_s <= lease_s / 2:
                continue
            actor = self.find(job.id)
            if actor is None:
                if silent_s > lease_s:
                    lost.append(job)
            elif job.heartbeat and self._jobs.write(job.id, job.attempt):  # for one that has no room yet
                actor.run.remote()  # whoever started it may have died before the call reached it
        if lost and not self._all_draining():
            for job in lost:
                self._restart(job)

    def reconcile(self) -> None:
        """Forget people of videos that are not there any more or have failed; remove what killed uploads have left."""
        videos = self._identities.videos()
        jobs = self._jobs.several(videos)
        if lost := [video for video in videos if video not in jobs or jobs[video].status == "failed"]:
            self._identities.forget(lost)
        folders = self._artifacts.videos()
        known = self._jobs.several(folders)  # asked after the folders, because a video has its folder first
        for video in folders:
            if video not in known and self._artifacts.remove_abandoned(video, self._clock() - _ABANDONED_S):
                logger.warning("what was left of an upload is removed", extra={"video_id": video})

    def _restart(self, job: Job) -> None:
        extra = {"video_id": job.id, "frame": job.frames_done, "attempt": job.attempt}
        lost = job.heartbeat > 0
        if lost and job.restarts >= self._config.serving.session.restarts:
            self._give_up(job)
            return
        taken = self._jobs.take_over(job)
        if taken is None:  # another replica was faster, or the session is alive
            return
        if lost:
            logger.warning("the session was lost, the video is taken up again", extra=extra)
        else:
            logger.info("the session has left its machine, the video is taken up again", extra=extra)
        try:
            self._launch(taken, RequestContext(video_id=taken.id))
        except ValueError:  # the name is taken: the actor of an earlier attempt is still on its way out
            logger.exception("no session could be started; the next look tries again", extra=extra)

    def _give_up(self, job: Job) -> None:
        lost = f"{job.restarts + 1} sessions were" if job.restarts else "the session was"
        message = f"{lost} lost, the last one after frame {job.frames_done}; post the video again"
        error = {"type": "SessionLost", "message": message}
        if not self._jobs.give_up(job, error):
            return
        logger.error(message, extra={"video_id": job.id, "frame": job.frames_done})
        CheckpointStore(self._artifacts, job.id, self._config).remove(job.attempt + 1)
        forget(self._identities, job.id, logger)

    def _launch(self, job: Job, origin: RequestContext) -> None:
        # Detached, because the ingress replica that starts a session may be gone before the video is done.
        actor = self._actor.options(
            name=job.id, namespace=_NAMESPACE, lifetime="detached", num_cpus=self._config.serving.session.cpus
        ).remote(job, self._config, self._deployment, self._detector, self._embedder, self._monitor, origin)
        actor.run.remote()

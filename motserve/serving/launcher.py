"""Starts, finds and ends the session actors, and notices the ones that were lost."""

from __future__ import annotations

import logging
import time
from typing import Any

import ray
from ray.serve.handle import DeploymentHandle

from motserve.config import Config
from motserve.errors import Overloaded
from motserve.identities.store import IdentityStore
from motserve.serving.origin import Origin
from motserve.serving.session import VideoSession
from motserve.serving.stores import ACTIVE, ArtifactStore, Job, JobStore

logger = logging.getLogger("motserve.ingress")

_NAMESPACE = "motserve"
_START_GRACE_S = 60.0  # a row is there before its actor is; only an older row without an actor is a lost one


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
    ) -> None:
        self._config = config
        self._deployment = deployment
        self._jobs = jobs
        self._artifacts = artifacts
        self._identities = identities
        self._detector = detector
        self._embedder = embedder
        self._monitor = monitor
        self._actor: Any = ray.remote(VideoSession)

    def start(self, job: Job, origin: Origin) -> None:
        """Admit a video and start its session.

        Args:
            job: The video.
            origin: The request that brought it.

        Raises:
            Overloaded: As many videos as allowed are in work.
        """
        limits = self._config.serving
        try:
            self._jobs.add(job, limits.max_active_videos, limits.retry_after_s)
        except Overloaded:
            self.reconcile()
            self._jobs.add(job, limits.max_active_videos, limits.retry_after_s)
        try:
            # Detached, because the ingress replica that starts a session may be gone before the video is done.
            actor = self._actor.options(
                name=job.id, namespace=_NAMESPACE, lifetime="detached", num_cpus=limits.session.cpus
            ).remote(job, self._config, self._deployment, self._detector, self._embedder, self._monitor, origin)
            actor.run.remote()
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

    def refreshed(self, job: Job) -> Job:
        """Return a job as it is now; one that is active without an actor has failed."""
        if job.status not in ACTIVE or self.find(job.id) is not None:
            return job
        job = self._jobs.get(job.id)  # the session may have ended just now, as it should
        if job.status not in ACTIVE or (job.status == "queued" and time.time() - job.created_at < _START_GRACE_S):
            return job
        message = f"the session was lost after frame {job.frames_done}; post the video again"
        logger.error(message, extra={"video_id": job.id, "frame": job.frames_done})
        self._jobs.update(job.id, status="failed", error={"type": "SessionLost", "message": message})
        self._identities.forget([job.id])
        return self._jobs.get(job.id)

    def reconcile(self) -> None:
        """Put right what a restart of the cluster has left behind.

        Active videos whose actors were lost are marked as failed; people of videos that are not there are forgotten.
        """
        for job in self._jobs.active():
            self.refreshed(job)
        videos = self._identities.videos()
        jobs = self._jobs.several(videos)
        if lost := [video for video in videos if video not in jobs or jobs[video].status == "failed"]:
            self._identities.forget(lost)

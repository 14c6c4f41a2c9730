"""The actor of one video: it builds the session from the configuration, and ends with it.

It runs no network and imports no torch, so a session is small. When the video is done, failed or deleted, the actor
ends; the row in the job store and the result file remain. At intervals the session writes a checkpoint, from which
another session resumes if this one is lost, or if its node is drained.
"""

from __future__ import annotations

import asyncio
import logging

import cv2
import ray

from motserve.config import Config
from motserve.config.logs import setup_logging
from motserve.people.identity_store import IdentityStore
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import Backends
from motserve.serving.observability.metrics import Ending, VideoGauges
from motserve.serving.observability.progress import Progress
from motserve.serving.observability.request_context import RequestContext
from motserve.serving.observability.telemetry import Telemetry
from motserve.serving.observability.tracing import Tracing
from motserve.serving.session.lease import Lease
from motserve.serving.session.memory_limit import MemoryLimit, return_large_blocks
from motserve.serving.session.model_client import ModelClient
from motserve.serving.session.nodes import is_draining
from motserve.serving.session.resume import Continuation
from motserve.serving.session.retry import Retry
from motserve.serving.session.video_identities import VideoIdentities
from motserve.serving.session.video_models import VideoModels
from motserve.serving.session.video_session import VideoSession
from motserve.serving.stores import REQUEST_TIMEOUT_S, ArtifactStore, Job, JobStore

logger = logging.getLogger("motserve.session")


class SessionActor:
    """Runs the session of one video; `SessionLauncher` makes it an actor.

    Args:
        job: The video and the attempt of this session.
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        backends: The deployments that it calls.
        context: The request that posted the video.
    """

    def __init__(self, job: Job, config: Config, deployment: str, backends: Backends, context: RequestContext) -> None:
        setup_logging(config.logging)
        cv2.setNumThreads(1)  # crops are small, and the networks need the cores
        return_large_blocks()
        serving = config.serving
        self._context = context
        self._tracing = Tracing(serving.tracing, "motserve-session")
        self._progress = Progress()
        gauges = VideoGauges(job.id) if serving.metrics.per_video else None
        self._telemetry = Telemetry(job.id, self._progress, backends.metrics.record.remote, gauges, self._tracing)
        client = ModelClient(
            backends,
            Retry(serving.session, self._progress),
            lambda: RequestContext.current(self._tracing.headers(), job.id),
        )
        identities = None
        if serving.identities.enabled and config.reid.policy != "off":
            store = IdentityStore(serving.storage_dir, serving.identities.max_identities)
            identities = VideoIdentities(store, config, job.id, logger)
        artifacts = ArtifactStore(serving.storage_dir)
        # a heartbeat may wait for a change of another thread that waits as long
        jobs = JobStore(serving.storage_dir, busy_timeout_s=min(REQUEST_TIMEOUT_S, serving.session.lease_s / 3))
        self._session = VideoSession(
            job,
            config,
            artifacts=artifacts,
            lease=Lease(
                jobs, job, serving.session, is_draining, self._progress.stalled_s, locked_wait_s=config.disk.wait_s
            ),
            models=VideoModels(client, ActiveModels(serving.storage_dir, deployment), config, job.id),
            continuation=Continuation(job, artifacts, config),
            identities=identities,
            progress=self._progress,
            telemetry=self._telemetry,
            memory=MemoryLimit(serving.session.memory_bytes),
        )
        self._running = False

    async def run(self) -> None:
        """Track the whole video, write the outcome to the job store, and end the actor.

        A second call does nothing: a launcher may not know that the first one arrived.
        """
        if self._running:
            return
        self._running = True
        ending: Ending | None = None
        self._telemetry.report()
        with self._context.logged():
            try:
                with self._tracing.span("session", "internal", self._context.trace, self._context.span_attributes):
                    ending = await self._session.run()
            finally:
                await self._shut_down(ending)

    async def wait_for_frames(self, num_frames: int) -> bool:
        """Wait until the result file is complete or has more than `num_frames` frames; return if it is complete."""
        return await self._progress.wait_for_frames(num_frames)

    async def _shut_down(self, ending: Ending | None) -> None:
        try:
            self._telemetry.export_gauges()
            await self._telemetry.end(ending)
            await asyncio.to_thread(self._tracing.flush)
        finally:
            # An orderly exit waits most of a minute for the threads of the Serve handles; everything is written by now.
            # This is in `finally`, because an actor that is alive counts as a session.
            ray.kill(ray.get_runtime_context().current_actor)

"""The actor of one video: it gets the video, builds the session from the configuration, and ends with it.

It runs no network and imports no torch, so a session is small. When the video is done, failed or deleted, the actor
ends; the row in the job store and the result file remain. At intervals the session writes a checkpoint, from which
another session resumes if this one is lost, or if its node is drained.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import cv2
import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError

from motserve.config import Config
from motserve.config.base import Role
from motserve.config.logs import setup_logging
from motserve.people.identity_store import IdentityStore
from motserve.pipeline.observer import PipelineStats
from motserve.pipeline.video_tracker import VideoTracker
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
from motserve.serving.session.warm import WaitForVideo, longest_wait_s
from motserve.serving.stores import REQUEST_TIMEOUT_S, ArtifactStore, Job, JobStore

logger = logging.getLogger("motserve.session")

_NAMESPACE: Final = "motserve"


class SessionActor:
    """Runs the session of one video; `SessionActors` makes it an actor.

    Args:
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        backends: The deployments that it calls.
    """

    def __init__(self, config: Config, deployment: str, backends: Backends) -> None:
        setup_logging(config.logging)
        cv2.setNumThreads(1)  # crops are small, and the networks need the cores
        return_large_blocks()
        serving = config.serving
        self._config = config
        self._backends = backends
        self._tracing = Tracing(serving.tracing, "motserve-session")
        self._artifacts = ArtifactStore(serving.storage_dir)
        # a heartbeat may wait for a change of another thread that waits as long
        self._jobs = JobStore(serving.storage_dir, busy_timeout_s=min(REQUEST_TIMEOUT_S, serving.session.lease_s / 3))
        self._active_models = ActiveModels(serving.storage_dir, deployment)
        self._identities = None
        if serving.identities.enabled and config.reid.policy != "off":
            self._identities = IdentityStore(serving.storage_dir, serving.identities.max_identities)
        self._progress = Progress()
        actor = ray.get_runtime_context().current_actor
        self._wait = WaitForVideo(longest_wait_s(serving.session), is_draining, lambda: ray.kill(actor))
        self._wait.start(serving.session.watch_s)

    async def prepare(self) -> None:
        """Do ahead what takes long at its first time: connect to the deployments and to the shared memory.

        Replicas that were removed because nobody needs them are not started for it.
        """
        roles: list[Role] = ["detector", "reid"] if self._config.needs_embeddings else ["detector"]
        for role in roles:
            limits = self._config.serving.detector if role == "detector" else self._config.serving.embedder
            if limits.autoscaling.min_replicas:
                names = await asyncio.to_thread(self._active_models.names, role, self._config)
                await self._backends.model(role).info.remote(names)
        await asyncio.to_thread(ray.put, [np.zeros((640, 640, 3), np.uint8)])
        VideoTracker(self._config, PipelineStats())  # some of its modules are loaded at the first use

    def keep(self) -> bool:
        """Wait on for a video; return False if this process is about to end."""
        return self._wait.keep()

    async def run(self, job: Job, context: RequestContext) -> None:
        """Track the whole video, write the outcome to the job store, and end the actor.

        A second call does nothing: a launcher may not know that the first one arrived.

        Args:
            job: The video and the attempt of this session.
            context: The request that posted the video.
        """
        if not self._wait.end():
            return
        self._progress.advance()  # the time before the video was no stall
        gauges = VideoGauges(job.id) if self._config.serving.metrics.per_video else None
        telemetry = Telemetry(job.id, self._progress, self._backends.metrics.record.remote, gauges, self._tracing)
        session = self._session_of(job, telemetry)
        ending: Ending | None = None
        telemetry.report()
        with context.logged():
            try:
                with self._tracing.span("session", "internal", context.trace, context.span_attributes):
                    ending = await session.run()
            finally:
                await self._shut_down(telemetry, ending)

    async def wait_for_frames(self, num_frames: int) -> bool:
        """Wait until the result file is complete or has more than `num_frames` frames; return if it is complete."""
        return await self._progress.wait_for_frames(num_frames)

    def _session_of(self, job: Job, telemetry: Telemetry) -> VideoSession:
        config, limits = self._config, self._config.serving.session
        client = ModelClient(
            self._backends,
            Retry(limits, self._progress),
            lambda: RequestContext.current(self._tracing.headers(), job.id),
        )
        identities = None
        if self._identities is not None:
            identities = VideoIdentities(self._identities, config, job.id, logger)
        return VideoSession(
            job,
            config,
            artifacts=self._artifacts,
            lease=Lease(
                self._jobs, job, limits, is_draining, self._progress.stalled_s, locked_wait_s=config.disk.wait_s
            ),
            models=VideoModels(client, self._active_models, config, job.id),
            continuation=Continuation(job, self._artifacts, config),
            identities=identities,
            progress=self._progress,
            telemetry=telemetry,
            memory=MemoryLimit(limits.memory_bytes),
        )

    async def _shut_down(self, telemetry: Telemetry, ending: Ending | None) -> None:
        try:
            telemetry.export_gauges()
            await telemetry.end(ending)
            await asyncio.to_thread(self._tracing.flush)
        finally:
            # An orderly exit waits most of a minute for the threads of the Serve handles; everything is written by now.
            # This is in `finally`, because an actor that is alive counts as a session.
            ray.kill(ray.get_runtime_context().current_actor)


class SessionActors:
    """Starts, finds and ends the session actors of this cluster.

    Args:
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        backends: The deployments that sessions call.
    """

    def __init__(self, config: Config, deployment: str, backends: Backends) -> None:
        self._class: Any = ray.remote(SessionActor)
        self._cpus = config.serving.session.cpus
        self._arguments = (config, deployment, backends)

    def start(self, name: str) -> Any:
        """Start an actor, or have Ray start it when there is a free CPU; return it.

        Raises:
            ValueError: There is an actor of this name.
        """
        # Detached, because the ingress replica that starts a session may end before the video is done.
        actor = self._class.options(name=name, namespace=_NAMESPACE, lifetime="detached", num_cpus=self._cpus)
        return actor.remote(*self._arguments)

    def find(self, name: str) -> Any | None:
        """Return the actor of a name; None if there is none in this cluster."""
        try:
            return ray.get_actor(name, namespace=_NAMESPACE)
        except ValueError:
            return None

    def kill(self, actor: Any) -> None:
        """End an actor."""
        ray.kill(actor)

    def prepare(self, actor: Any) -> Callable[[], bool]:
        """Have an actor prepare for a video; return a function that tells whether this is done."""
        preparing = actor.prepare.remote()

        def is_prepared() -> bool:
            if not ray.wait([preparing], timeout=0)[0]:
                return False
            try:
                ray.get(preparing)
            except Exception as error:  # it tries again with its video
                logger.warning("a session process could not prepare for a video: %s", error)
            return True

        return is_prepared

    def keep(self, actors: Sequence[Any], timeout_s: float) -> list[bool | None]:
        """Tell actors to wait on; return for each whether it does, None if it does not answer in time."""
        answers = [actor.keep.remote() for actor in actors]
        ray.wait(answers, num_returns=len(answers), timeout=timeout_s)
        return [_answer_of(answer) for answer in answers]


def _answer_of(answer: Any) -> bool | None:
    try:
        return bool(ray.get(answer, timeout=0))
    except GetTimeoutError:
        return None
    except RayActorError:
        return False

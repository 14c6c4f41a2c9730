"""The dependencies of all routes: configuration, stores, sessions and the handles of the model deployments."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from motserve.config import Config
from motserve.errors import NotReady
from motserve.people.identity_index import IdentityIndexes
from motserve.people.identity_store import IdentityStore
from motserve.serving.api.bodies import UploadSlots
from motserve.serving.api.schemas import ModelDetails, Models
from motserve.serving.inference.active_models import ActiveModels
from motserve.serving.inference.backends import Backends
from motserve.serving.inference.reload import Reloader
from motserve.serving.observability.tracing import Tracing
from motserve.serving.periodic import repeating
from motserve.serving.probing import VideoProbes
from motserve.serving.session.launcher import SessionLauncher
from motserve.serving.stores import REQUEST_TIMEOUT_S, ArtifactStore, JobStore, StoreCalls

logger = logging.getLogger("motserve.ingress")

_READY_TIMEOUT_S = 5.0  # below the timeouts of probes, so that they get a 503 rather than no answer


@dataclass(slots=True)
class Service:
    """The dependencies of the routes. Each ingress replica has its own; all state is in the shared stores."""

    config: Config
    deployment: str
    """ID of the deployment of the application."""
    backends: Backends
    jobs: JobStore = field(init=False)
    stores: StoreCalls = field(init=False)
    """Calls the stores in threads."""
    artifacts: ArtifactStore = field(init=False)
    identities: IdentityStore = field(init=False)
    indexes: IdentityIndexes = field(init=False)
    """In-memory indexes over the identity store, built at the first search."""
    sessions: SessionLauncher = field(init=False)
    reloader: Reloader = field(init=False)
    tracing: Tracing = field(init=False)
    uploads: UploadSlots = field(init=False)
    probes: VideoProbes = field(init=False)
    rendering: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Annotated videos that this replica renders now, by video ID, so that concurrent requests share one rendering."""

    def __post_init__(self) -> None:
        """Open the stores."""
        serving = self.config.serving
        self.jobs = JobStore(serving.storage_dir, busy_timeout_s=REQUEST_TIMEOUT_S)
        self.stores = StoreCalls(serving.ingress.max_ongoing_requests, serving.retry_after_s)
        self.artifacts = ArtifactStore(serving.storage_dir)
        self.identities = IdentityStore(serving.storage_dir, serving.identities.max_identities, REQUEST_TIMEOUT_S)
        self.indexes = IdentityIndexes(self.identities)
        self.sessions = SessionLauncher(
            self.config, self.deployment, self.backends, self.jobs, self.artifacts, self.identities
        )
        self.uploads = UploadSlots(serving.uploads, serving.retry_after_s)
        self.probes = VideoProbes(serving.probe, self.config.video, serving.retry_after_s)
        self.tracing = Tracing(serving.tracing, "motserve-ingress")
        active_models = ActiveModels(serving.storage_dir, self.deployment, REQUEST_TIMEOUT_S)
        self.reloader = Reloader(self.config, active_models, self.backends)

    def restarting_lost_sessions(self) -> AbstractAsyncContextManager[None]:
        """Restart lost sessions every `serving.session.watch_s` seconds while the context is open."""
        return repeating(
            lambda: self.stores.run(self.sessions.restart_lost, limit_s=None),
            self.config.serving.session.watch_s,
            logger,
            "the check for lost sessions failed",
        )

    @asynccontextmanager
    async def keeping_sessions_warm(self) -> AsyncIterator[None]:
        """Have `serving.session.warm` session processes wait for videos while the context is open."""
        warm = self.sessions.warm
        try:
            async with repeating(
                lambda: self.stores.run(warm.refill, limit_s=None),
                self.config.serving.session.watch_s,
                logger,
                "the session processes that wait for videos could not be checked",
            ):
                yield
        finally:
            await self.stores.run(warm.close, limit_s=None)

    async def models(self) -> Models:
        """Return the active models as the deployments describe them.

        Raises:
            NotReady: A deployment does not answer.
            sqlite3.OperationalError: The store of active models cannot be read.
        """
        try:
            infos = {role: await self.reloader.info(role, _READY_TIMEOUT_S) for role in self.reloader.roles}
        except sqlite3.OperationalError:
            raise
        except Exception as error:
            raise NotReady(f"detector or embedder does not answer ({type(error).__name__})") from error
        return Models(**{role: ModelDetails(**info.weights) for role, info in infos.items()})


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDependency = Annotated[Service, Depends(_service)]

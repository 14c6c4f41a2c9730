"""The ingress deployment and the FastAPI application it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

import motserve
from motserve.config import Config
from motserve.logs import setup_logging
from motserve.serving.ingress import admin, health, identities, problems, videos
from motserve.serving.ingress.service import Service


def build_http(service: Service) -> FastAPI:
    """Return the HTTP application over a service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.reloader.polling(), service.watching():
            yield

    app = FastAPI(
        title="motserve",
        version=motserve.__version__,
        summary="Post a video, get every person tracked.",
        license_info={"name": "AGPL-3.0", "identifier": "AGPL-3.0-only"},
        lifespan=lifespan,
    )
    app.state.service = service
    problems.install(app)
    app.include_router(videos.router)
    app.include_router(identities.router)
    app.include_router(health.router)
    app.include_router(admin.router)
    return app


class Ingress:
    """Composes detector, embedder and session actors behind HTTP; stateless, so there may be many.

    Args:
        config: The configuration, paths absolute.
        deployment: ID of the deployment of the application.
        detector: Handle of the detector deployment.
        embedder: Handle of the embedder deployment.
    """

    def __init__(
        self, config: Config, deployment: str, detector: DeploymentHandle[Any], embedder: DeploymentHandle[Any]
    ) -> None:
        setup_logging(config.logging)
        self._service = Service(config, deployment, detector, embedder)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application that this replica serves; Ray Serve calls it by this name."""
        return build_http(self._service)

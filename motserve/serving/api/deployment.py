"""The ingress deployment and the FastAPI application it serves."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

import motserve
from motserve.config import Config
from motserve.config.logs import setup_logging
from motserve.serving.api import problems
from motserve.serving.api.head_routes import head_routes
from motserve.serving.api.openapi.document import complete
from motserve.serving.api.request_ids import RequestObserver
from motserve.serving.api.routes import admin, health, identities, videos
from motserve.serving.api.service import Service
from motserve.serving.inference.backends import Backends


class _Http(FastAPI):
    """The application with `RequestObserver` as the outermost middleware, around the handler of unexpected errors."""

    def __init__(self, service: Service, proxied: bool, **settings: Any) -> None:
        self._service, self._proxied = service, proxied
        super().__init__(**settings)

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            complete(super().openapi(), self._service.config.serving.admin_token is not None)
        return super().openapi()

    def build_middleware_stack(self) -> ASGIApp:
        return RequestObserver(super().build_middleware_stack(), self._service.tracing, self._proxied)


def build_http(service: Service, proxied: bool = False) -> FastAPI:
    """Return the HTTP application of a service.

    Args:
        service: The service.
        proxied: Whether requests come through Ray Serve's proxy, which adds `X-Request-ID` to responses itself.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.stores.run(service.sessions.reconcile, limit_s=None)
        async with (
            service.reloader.polling(),
            service.restarting_lost_sessions(),
            service.keeping_sessions_warm(),
            service.probes,
        ):
            yield

    # a malformed form gets 400 with the reason; the parser's own lines have no request and are not structured
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    app = _Http(
        service,
        proxied,
        title="motserve",
        version=motserve.__version__,
        summary="Multi-object tracking and person re-identification: post a video, get the track of every person.",
        license_info={"name": "AGPL-3.0", "identifier": "AGPL-3.0-only"},
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    problems.install(app)
    routers = (videos.router, identities.router, health.router, admin.router)
    for router in (*routers, head_routes(routers)):
        app.include_router(router)
    return app


class Ingress:
    """The HTTP ingress in front of detector, embedder and session actors; stateless, so it may have many replicas.

    Args:
        config: The configuration, with absolute paths.
        deployment: ID of the deployment of the application.
        backends: The deployments behind it.
    """

    def __init__(self, config: Config, deployment: str, backends: Backends) -> None:
        setup_logging(config.logging)
        self._service = Service(config, deployment, backends)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application that this replica serves; Ray Serve calls it by this name."""
        return build_http(self._service, proxied=True)

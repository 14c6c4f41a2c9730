"""Methods of routes: HEAD wherever there is GET, which FastAPI leaves to the application, and what `Allow` says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.routing import Match

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def head_routes(routers: Iterable[APIRouter]) -> APIRouter:
    """Return a route with HEAD for each one with GET: the same function, so the same headers.

    The server sends no body. A function whose answer is costly to make looks at the method of the request. The routes
    are no part of the schema, where each would be the same operation twice.

    Args:
        routers: Where the routes with GET are.
    """
    heads = APIRouter()
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            heads.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                response_model=route.response_model,
                response_class=route.response_class,
                status_code=route.status_code,
                dependencies=route.dependencies,
                include_in_schema=False,
            )
    return heads


def allowed_methods(request: Request) -> str:
    """Return what `Allow` must say of a path: FastAPI names the methods of its first route only."""
    routes, scope = request.app.routes, request.scope
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    )
